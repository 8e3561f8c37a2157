"""Strategies for tensors of every type and shape, values that hurt included."""

import math

import torch
from hypothesis import strategies as st

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
OTHERS = ("int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128")
HURTFUL = (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324, 1e-40, 65504.0, 65520.0, 3.3e38, 1e150, -1e150)

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensors(draw, shape=None, dtypes=FLOATS + OTHERS):
    shape = draw(shapes) if shape is None else shape
    dtype = getattr(torch, draw(st.sampled_from(dtypes)))
    count = math.prod(shape)
    if dtype.is_floating_point or dtype.is_complex:
        one = st.one_of(st.sampled_from(HURTFUL), st.floats(-1e3, 1e3))
    elif dtype is torch.bool:
        one = st.booleans()
    else:
        one = st.integers(torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    values = draw(st.lists(one, min_size=count, max_size=count))
    made = torch.tensor(values, dtype=torch.float64 if dtype.is_floating_point else None if dtype.is_complex else dtype)
    return made.to(dtype).reshape(shape)


@st.composite
def pairs(draw):
    """Two tensors of one shape, of any two types."""
    shape = draw(shapes)
    return draw(tensors(shape)), draw(tensors(shape))
