"""Tensors as parts of a file that is mapped into memory: nothing is read before it is looked at."""

from __future__ import annotations

import json
import pathlib
import struct

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from whydiff.evidence.traces.tensor_files import DTYPES
from whydiff.measure.mapped import large, map_bytes


def map_tensors(path, *, leaves: bool = False) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file as parts of the mapped file. `leaves`: see `measure.mapped`. Raises OSError, ValueError,
    KeyError or SafetensorError for what is no whole one."""
    with safe_open(path, "pt"):  # looks through the header: every offset is checked
        data = map_bytes(path, leaves=leaves)
    length = struct.unpack("<Q", bytes(data[:8].tolist()))[0]
    entries = json.loads(bytes(data[8 : 8 + length].numpy()))
    entries.pop("__metadata__", None)
    if any(entry["dtype"] not in DTYPES for entry in entries.values()):
        return load_file(path)
    return {key: _part(data[8 + length :], entry) for key, entry in entries.items()}


def _part(data: torch.Tensor, entry: dict) -> torch.Tensor:
    """A tensor of a file; copied where it does not begin at a multiple of its elements' size."""
    dtype, part = DTYPES[entry["dtype"]], data[slice(*entry["data_offsets"])]
    if part.storage_offset() % dtype.itemsize:
        part = part.clone()
    return part.view(dtype).reshape(entry["shape"]) if len(part) else torch.empty(entry["shape"], dtype=dtype)


def map_array(path: pathlib.Path) -> torch.Tensor | None:
    """The array of a large .npy file, as a part of the mapped file; None for a small one, and for what only numpy itself can read."""
    if not large([path]):
        return None
    try:
        shape = (held := np.load(path, mmap_mode="r", allow_pickle=False)).shape
        data = map_bytes(path, leaves=True)[held.offset :]
        dtype = torch.from_numpy(np.empty(0, held.dtype)).dtype
        values = data[: held.nbytes].view(dtype)
        return values.reshape(shape) if held.flags.c_contiguous else values.reshape(shape[::-1]).permute(*reversed(range(len(shape))))
    except (OSError, ValueError, EOFError, TypeError, RuntimeError):
        return None
