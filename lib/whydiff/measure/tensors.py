"""What counts as a tensor here: torch, numpy, PIL, numbers and lists of them, read without changing a value."""

from __future__ import annotations

import ctypes
import math

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
    import numpy as np  # not in every environment that a side runs in

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
    """(start, flat pieces) of equally large tensors, at most ``size`` elements each, in row-major order. A tensor that does not
    lie so is put in order a chunk at a time."""
    for start in range(0, tensors[0].numel(), size):
        stop = min(start + size, tensors[0].numel())
        yield start, *(flat_part(tensor, start, stop) for tensor in tensors)


def flat_part(tensor: Tensor, start: int, stop: int) -> Tensor:
    """``tensor.reshape(-1)[start:stop]`` without a copy of the whole."""
    if tensor.is_contiguous():
        return tensor.view(-1)[start:stop]
    return torch.cat([piece.reshape(-1) for piece in pieces(tensor, start, stop)])


def pieces(array, start: int, stop: int):
    """Views of a tensor or array of one axis or more whose elements, one after the other, are its flat ``start`` to ``stop``."""
    if len(array.shape) == 1:
        yield array[start:stop]
        return
    inner = math.prod(array.shape[1:])
    first, last = start // inner, stop // inner
    if first == last:
        yield from pieces(array[first], start - first * inner, stop - first * inner)
        return
    if start > first * inner:
        yield from pieces(array[first], start - first * inner, inner)
        first += 1
    if first < last:
        yield array[first:last]
    if stop > last * inner:
        yield from pieces(array[last], 0, stop - last * inner)


def raw_bytes(tensor: Tensor) -> bytes:
    """The values as they lie in memory, row by row, of any dtype; without numpy."""
    whole = tensor.detach().cpu().contiguous()
    return ctypes.string_at(whole.data_ptr(), whole.numel() * whole.element_size())


def _readable(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_meta:
        raise Trouble(f"{name} is on the meta device and has no values. Record it after the model was loaded.")
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor.to_dense() if tensor.layout is not torch.strided else tensor


def _native(array, name: str):
    """An array that torch can hold: native byte order, positive strides, writable."""
    import numpy as np

    if array.dtype.name == "bfloat16":  # ml_dtypes, from JAX; every bfloat16 is a float32
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufc":
        raise Trouble(f"{name} has dtype {array.dtype}, which holds no numbers to compare.")
    if array.dtype == np.longdouble and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch warns on read-only memory because it could write to it, and knows no steps backwards or between elements
    steps = all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
    return array if array.flags.writeable and steps else array.copy(order="C")


def _stacked(values, name: str) -> Tensor:
    import numpy as np

    if all(isinstance(v, (bool, int, float, complex, np.generic)) for v in values):
        return torch.from_numpy(_native(np.asarray(values), name))
    parts = [as_tensor(v, f"{name}[{i}]") for i, v in enumerate(values)]
    shapes = {tuple(p.shape) for p in parts}
    if len(shapes) > 1:
        raise Trouble(f"{name} is a list of {len(parts)} items of different shapes, {sorted(shapes)[:3]}. "
                      "Compare them one by one.")
    return torch.stack(parts)
