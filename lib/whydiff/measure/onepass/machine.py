"""Which tensors on the CPU machine code can read. Importing this imports neither numpy nor numba: a side's interpreter may lack both."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# Below this the pass in torch is done before numba is imported (0.5 s) and its code is read (0.3 s). The number of elements alone
# decides, so that a pair of tensors has the same figures, bit for bit, whatever was compared before.
LARGE = 1 << 22

ONE_BYTE = tuple(getattr(torch, name) for name in ("uint8", "int8", "bool", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
                                                   "float8_e5m2fnuz", "float8_e8m0fnu") if hasattr(torch, name))  # fmt: skip
KINDS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3, torch.int16: 5, torch.int32: 6}
BYTE = 4  # the kind of every type of ONE_BYTE


def readable(a: Tensor, b: Tensor) -> bool:
    """Can and should `compiled` read this pair?"""
    known = all(t.device.type == "cpu" and (t.dtype in KINDS or t.dtype in ONE_BYTE) and not t.is_neg() for t in (a, b))
    return known and a.numel() >= LARGE and code() is not None


@functools.lru_cache(maxsize=1)
def code():
    """The module that numba compiles, or None where there is no numba that works here: then torch does it."""
    try:
        from whydiff.measure.onepass import blocks
    except Exception:  # not installed, or made for another numpy, which numba says with whatever it likes
        return None
    return blocks
