"""Tensors as bytes and as safetensors files, with torch and the standard library alone.

The package `safetensors` would copy all of the bytes before it writes them. Reading takes one tensor at a time: another side's recording may
be larger than memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import struct

import torch

_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
          "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"}  # fmt: skip
DTYPES = {code: getattr(torch, name) for code, name in _NAMES.items() if hasattr(torch, name)}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def plain_on_cpu(tensor: torch.Tensor, copy: bool = False) -> torch.Tensor:
    """The values on the CPU in row-major order, a dense tensor that nothing else is folded into."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return tensor.to("cpu", copy=copy).resolve_conj().resolve_neg().contiguous()


def storable(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that a file can hold: of a type the format does not know, its values in one that it does."""
    if tensor.dtype in _CODES:
        return tensor
    return torch.view_as_real(tensor).contiguous() if tensor.is_complex() else tensor.to(torch.float32)


def memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, neither copied nor seen by numpy. Keep the tensor while they are used."""
    size = tensor.numel() * tensor.element_size()
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())) if size else memoryview(b"")


def tensor_sha256(tensor: torch.Tensor) -> str:
    """Hash of the values as they lie in memory, row by row."""
    tensor = plain_on_cpu(tensor)
    return hashlib.sha256(memory(tensor)).hexdigest()


def save_plainly(tensors: dict[str, torch.Tensor], path) -> None:
    """Write a safetensors file of contiguous tensors on the CPU, from where they lie.

    The format: the length of a JSON header as 8 bytes, the header, then the tensors' bytes.
    """
    header, start = {}, 0
    for key, tensor in tensors.items():
        end = start + tensor.numel() * tensor.element_size()
        header[key] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(memory(tensor))


def read_tensor(path, key: str) -> torch.Tensor:
    """One tensor of a safetensors file. Raises OSError, ValueError or KeyError where that cannot be had."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        try:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > size - 8:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            entry = json.loads(file.read(length))[key]
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= size - 8 - length:
                raise ValueError(f"values from {start} to {end} in a file of {size} bytes")
            file.seek(8 + length + start)
            data, dtype = bytearray(file.read(end - start)), DTYPES[entry["dtype"]]
            return torch.frombuffer(data, dtype=dtype).reshape(entry["shape"]) if data else torch.empty(entry["shape"], dtype=dtype)
        except (struct.error, TypeError, ValueError, RuntimeError, RecursionError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
