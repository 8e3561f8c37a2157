"""Tensors of strangers, as the dense tensors on the CPU that everything else expects; mapped from the file where it is possible."""

from __future__ import annotations

import math
import pathlib
import re
import struct

import torch

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.traces.mapped_files import map_tensors
from whydiff.evidence.traces.strangers import reading, regular
from whydiff.measure.mapped import large

# Types of which torch can hold the bits and no more.
_OPAQUE = {getattr(torch, name) for name in dir(torch) if re.fullmatch(r"bits?\d.*|bit|u?int[1-7]|float4.*", name)}
DAMAGED = "It was cut short or is damaged: copy it again, or save it again."


def from_safetensors(path: pathlib.Path, leaves: bool | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, mapped. Raises Trouble for a damaged one, and for a header beyond the limit.

    `leaves`: whether its pages leave memory after use (see `measure.mapped`); those of a large file do unless it is said.
    """
    with reading(path, "a whole safetensors file", DAMAGED):
        with regular(path).open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
        if length <= path.stat().st_size:  # else it lies, and the library says so
            limits.HEADER.check(length, path)
        held = map_tensors(path, leaves=large([path]) if leaves is None else leaves)
    return {name: usable(tensor, f"{path} {name}", path) for name, tensor in held.items()}


def usable(tensor: torch.Tensor, name: str, path: pathlib.Path) -> torch.Tensor:
    """A dense tensor with the values of `tensor`. Raises Trouble where there are none, and for a few bytes that would become many."""
    if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
        raise Trouble(f"{name} is on the meta device and has no values. Save it after the model was loaded.")
    tensor = tensor.detach()
    if tensor.dtype in _OPAQUE:
        raise Trouble(f"{name}: {str(tensor.dtype).removeprefix('torch.')} is packed bits. Save it unpacked, as float32, say.")
    with reading(name, "a tensor whose values can be had", "Save it as a dense tensor: tensor.to_dense().cpu()."):
        if tensor.is_nested:
            raise ValueError("nested")
        limits.check_unpacked(math.prod(tensor.shape) * tensor.element_size(), path.stat().st_size, name)
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        return tensor.to("cpu")

