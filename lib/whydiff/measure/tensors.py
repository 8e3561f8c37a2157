"""What counts as a tensor here: torch, numpy, PIL, numbers and lists of them, read without changing a value."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whydiff.errors import Trouble

# Elements handled at a time: 8 MB in float64, small beside any tensor that needs chunks.
CHUNK = 1 << 20

# Half the distance between 1 and the next number, which is the largest relative error of one rounding.
UNIT_ROUNDING = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.float8_e4m3fn: 2.0**-4,
    torch.float8_e5m2: 2.0**-3,
}


def as_tensor(value, name: str = "value") -> Tensor:
    """``value`` as a detached torch tensor of its own dtype; no copy where none is needed.

    Python floats become float64, a list of tensors, arrays or pictures of one shape is stacked along a new first
    axis. Raises Trouble for anything that has no numbers, naming it ``name``.
    """
    if isinstance(value, Tensor):
        return _readable(value.detach(), name)
    if isinstance(value, (bool, int, float, complex, np.generic)):
        return torch.from_numpy(_native(np.asarray(value), name))
    if isinstance(value, np.ndarray):
        return torch.from_numpy(_native(value, name))
    if type(value).__module__.split(".")[0] == "PIL":
        return torch.from_numpy(np.array(value))
    if isinstance(value, (list, tuple)):
        return _stacked(value, name)
    if hasattr(value, "__array__"):
        return torch.from_numpy(_native(np.asarray(value), name))
    raise Trouble(f"{name} is a {type(value).__name__}, which holds no numbers to compare. "
                  "Pass a tensor, an array, a picture or a list of numbers.")


def dtype_name(tensor: Tensor) -> str:
    """torch's own spelling without the package: ``float32``, ``bfloat16``."""
    return str(tensor.dtype).removeprefix("torch.")


def unit_rounding(tensor: Tensor) -> float:
    """Largest relative error of one rounding in the tensor's dtype; 0 for integers, which do not round."""
    return UNIT_ROUNDING.get(tensor.dtype.to_real(), 0.0)


def wide(tensor: Tensor) -> Tensor:
    """The same values on the CPU in float64 (complex128 for complex numbers)."""
    return tensor.to("cpu", torch.complex128 if tensor.is_complex() else torch.float64)


def chunks(*tensors: Tensor, size: int = CHUNK):
    """(start, flat pieces) of equally large tensors, at most ``size`` elements each, in row-major order."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), size):
        yield start, *(tensor[start : start + size] for tensor in flat)


def _readable(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_meta:
        raise Trouble(f"{name} is on the meta device and has no values. Record it after the model was loaded.")
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor.to_dense() if tensor.layout is not torch.strided else tensor


def _native(array: np.ndarray, name: str) -> np.ndarray:
    """An array that torch can hold: native byte order, positive strides, writable."""
    if array.dtype.name == "bfloat16":  # ml_dtypes, from JAX; every bfloat16 is a float32
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufc":
        raise Trouble(f"{name} has dtype {array.dtype}, which holds no numbers to compare.")
    if array.dtype == np.longdouble and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch warns on read-only memory (memory maps) because it could write to it
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")


def _stacked(values, name: str) -> Tensor:
    if all(isinstance(v, (bool, int, float, complex, np.generic)) for v in values):
        return torch.from_numpy(_native(np.asarray(values), name))
    parts = [as_tensor(v, f"{name}[{i}]") for i, v in enumerate(values)]
    shapes = {tuple(p.shape) for p in parts}
    if len(shapes) > 1:
        raise Trouble(f"{name} is a list of {len(parts)} items of different shapes, {sorted(shapes)[:3]}. "
                      "Compare them one by one.")
    return torch.stack(parts)
