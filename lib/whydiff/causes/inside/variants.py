"""What programmers get wrong about single torch functions: one line for each variant. A line tells which functions it
concerns, what it makes of a call, and which catalogue id it has (by the role of the module; None: no id, but worth telling).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Variant:
    functions: tuple[str, ...]
    words: str  # "the mask is left out"
    id: str | None
    apply: Callable  # (function, *args, **kwargs) -> result; raises TypeError where it does not apply
    order: int = 5  # likelier and cheaper first
    equivalent: tuple[str, ...] = ()


class NotHere(TypeError):
    """The variant does not apply to this call."""


# --- attention -------------------------------------------------------------------------------------------------------


def _attention(change):
    def apply(function, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest):
        q, k, v, mask, causal, factor = change(query, key, value, attn_mask, is_causal, scale)
        return function(q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=causal, scale=factor, **rest)

    return apply


def _needs_mask(change):
    def with_mask(q, k, v, mask, causal, scale):
        if mask is None:
            raise NotHere
        return q, k, v, change(mask, q), causal, scale

    return _attention(with_mask)


def _inverted(mask, query):
    """What is kept is left out, and the reverse."""
    if mask.dtype == torch.bool:
        return ~mask
    return torch.where(mask < -1.0, 0.0, torch.finfo(mask.dtype).min).to(mask.dtype)


def _kept(mask):
    return mask if mask.dtype == torch.bool else mask > -1.0


def _padding_attended(q, k, v, mask, causal, scale):
    raise NotHere


def _text_twice(count: int):
    """The first `count` keys (the text of joint attention) counted twice."""

    def change(q, k, v, mask, causal, scale):
        return q, torch.cat([k, k[..., :count, :]], -2), torch.cat([v, v[..., :count, :]], -2), mask, causal, scale

    return _attention(change)


ATTENTION = ("scaled_dot_product_attention",)
SOFTMAX = ("softmax",)


# --- norms -----------------------------------------------------------------------------------------------------------


def _eps(value: float):
    """Norms of torch.nn.functional with another epsilon."""

    def apply(function, x, *args, **kwargs):
        name = function.__name__
        names = {"layer_norm": ("normalized_shape", "weight", "bias", "eps"), "rms_norm": ("normalized_shape", "weight", "eps"),
                 "group_norm": ("num_groups", "weight", "bias", "eps")}[name]  # fmt: skip
        given = dict(zip(names, args)) | kwargs
        return function(x, **(given | {"eps": value}))

    return apply


def _added_eps(value: float):
    """`variance + eps` with another number: norms written out by hand add it to a mean of squares."""

    def apply(function, x, other, *rest, **kwargs):
        if not isinstance(x, torch.Tensor):
            x, other = other, x
        if not isinstance(other, float) or not 0 < other < 1e-2 or not isinstance(x, torch.Tensor):
            raise NotHere
        return function(x, value)

    return apply


def _skipped(function, x, *args, **kwargs):
    return x.clone()


def _parts(count: int, dim: int):
    """A norm whose statistics are those of each part of an axis."""

    def apply(function, x, *args, **kwargs):
        if x.dim() < 2 or x.shape[dim] % count:
            raise NotHere
        if function.__name__ == "group_norm":
            return torch.cat([function(part, *args, **kwargs) for part in x.chunk(count, dim)], dim)
        shape, *more = args if args else (kwargs.pop("normalized_shape"),)
        names = {"layer_norm": ("weight", "bias", "eps"), "rms_norm": ("weight", "eps")}[function.__name__]
        given = dict(zip(names, more)) | kwargs
        size = x.shape[-1] // count
        plain = torch.cat([function(part, (size,), eps=given.get("eps")) if given.get("eps") is not None else function(part, (size,))
                           for part in x.chunk(count, -1)], -1)  # fmt: skip
        plain = plain * given["weight"] if given.get("weight") is not None else plain
        return plain + given["bias"] if given.get("bias") is not None else plain

    return apply


def _local_mean(count: int):
    """A mean over the last axis taken in each of its parts: rms norms written out by hand."""

    def apply(function, x, dim=None, keepdim=False, **kwargs):
        if dim not in (-1, (-1,), [-1], x.dim() - 1) or not keepdim or x.shape[-1] % count:
            raise NotHere
        means = x.unflatten(-1, (count, -1)).mean(-1, keepdim=True)
        return means.expand(*means.shape[:-1], x.shape[-1] // count).flatten(-2)

    return apply


# --- activations -----------------------------------------------------------------------------------------------------


def _tanh_or_exact(function, x, *args, approximate="none", **kwargs):
    approximate = args[0] if args else approximate
    return F.gelu(x, approximate="none" if approximate == "tanh" else "tanh")


def _as(other):
    return lambda function, x, *args, **kwargs: other(x)


# --- order -----------------------------------------------------------------------------------------------------------


def _order(pick):
    def apply(function, *args, **kwargs):
        parts = function(*args, **kwargs)
        if not isinstance(parts, (tuple, list)) or len(parts) < 2:
            raise NotHere
        order = pick(len(parts))
        if order is None or len({tuple(parts[i].shape) for i in range(len(parts))}) > 1:
            raise NotHere
        return tuple(parts[i] for i in order)

    return apply


def _swap(i: int, j: int):
    def pick(count):
        if max(i, j) >= count:
            return None
        order = list(range(count))
        order[i], order[j] = order[j], order[i]
        return order

    return _order(pick)


def _halves_exchanged(count):
    return [*range(count // 2, count), *range(count // 2)] if count % 2 == 0 and count > 2 else None


def _cat_exchanged(function, tensors, dim=0, **kwargs):
    if len(tensors) != 2:
        raise NotHere
    return function([tensors[1], tensors[0]], dim, **kwargs)


# --- spatial ---------------------------------------------------------------------------------------------------------


def _interpolate(mode, align=None):
    def apply(function, x, size=None, scale_factor=None, mode_=None, align_corners=None, **kwargs):
        kwargs.pop("mode", None)
        options = {} if align is None else {"align_corners": align}
        used = {4: mode, 3: {"bilinear": "linear"}.get(mode, mode), 5: {"bilinear": "trilinear"}.get(mode, mode)}.get(x.dim())
        return function(x, size=size, scale_factor=scale_factor, mode=used, **options)

    return apply


def _pad(new):
    """`F.pad(x, (0, 1, 0, 1))` on the other sides."""

    def apply(function, x, pad, *args, **kwargs):
        pad = tuple(pad)
        if len(pad) < 4 or not any(pad):
            raise NotHere
        return function(x, new(pad), *args, **kwargs)

    return apply


def _other_sides(pad):
    return tuple(value for pair in zip(pad[1::2], pad[::2]) for value in pair)


# --- precision -------------------------------------------------------------------------------------------------------


def rounded(dtype):
    def apply(function, *args, **kwargs):
        result = function(*args, **kwargs)
        if not isinstance(result, torch.Tensor) or result.dtype not in (torch.float32, torch.float64):
            raise NotHere
        return result.to(dtype).to(result.dtype)

    return apply


def computed_in(dtype):
    """Inputs and result in a lower type, as code does that lost its upcast."""

    def apply(function, *args, **kwargs):
        def low(v):
            if isinstance(v, torch.Tensor) and v.is_floating_point():
                return v.to(dtype)
            return type(v)(low(x) for x in v) if type(v) in (list, tuple) else v

        result = function(*(low(v) for v in args), **{k: low(v) for k, v in kwargs.items()})
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            raise NotHere
        wide = next((v.dtype for v in [*args, *kwargs.values()] if isinstance(v, torch.Tensor) and v.is_floating_point()), result.dtype)
        return result.to(wide)

    return apply


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _first(function, x, other=None, *args, **kwargs):
    if not isinstance(x, torch.Tensor) or x.shape != function(x, other, *args, **kwargs).shape:
        raise NotHere
    return x.clone()


def _second(function, x, other, *args, **kwargs):
    if not isinstance(other, torch.Tensor) or other.shape != function(x, other, *args, **kwargs).shape:
        raise NotHere
    return other.clone()


def _negated(function, *args, **kwargs):
    result = function(*args, **kwargs)
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        raise NotHere
    return -result


NORMS = ("layer_norm", "rms_norm", "group_norm")
CHUNKS = ("chunk", "split", "unbind", "split_with_sizes", "tensor_split")
ARITHMETIC = ("add", "__add__", "__radd__", "__iadd__", "mul", "__mul__", "__rmul__", "div", "__truediv__", "sub", "__sub__", "add_")
SUMS = ("add", "__add__", "__radd__", "__iadd__")

VARIANTS: tuple[Variant, ...] = (
    Variant(("gelu",), "GELU in its tanh form against the exact one", "gelu-tanh-vs-exact", _tanh_or_exact, 0),
    Variant(("gelu",), "SiLU in place of GELU", None, _as(F.silu), 1),
    Variant(("silu",), "GELU in place of SiLU", None, _as(F.gelu), 1),
    Variant(ATTENTION, "the mask is left out", "attention-mask-dropped", _needs_mask(lambda m, q: None), 0, ("sp-padding-unmasked",)),
    Variant(ATTENTION, "the mask is read the other way round", "attention-mask-inverted", _needs_mask(_inverted), 0),
    Variant(ATTENTION, "the mask is added as 1 and 0", "attention-mask-added-as-bool",
            _needs_mask(lambda m, q: _kept(m).to(q.dtype)), 0),
    Variant(ATTENTION, "the attention is not scaled", None, _attention(lambda q, k, v, m, c, s: (q, k, v, m, c, 1.0)), 1),
    Variant(ATTENTION, "the attention is scaled by 1/d", None, _attention(lambda q, k, v, m, c, s: (q, k, v, m, c, 1 / q.shape[-1])), 1),
    Variant(ATTENTION, "the attention is causal", None, _attention(lambda q, k, v, m, c, s: (q, k, v, None, not c, s)), 1),
    Variant(ATTENTION, "queries and keys are exchanged", None, _attention(lambda q, k, v, m, c, s: (k, q, v, m, c, s)), 2),
    Variant(ATTENTION, "keys and values are exchanged", None, _attention(lambda q, k, v, m, c, s: (q, v, k, m, c, s)), 2),
    *(Variant(NORMS, f"epsilon {e:g}", "norm-eps", _eps(e), 2) for e in (1e-5, 1e-6, 1e-8, 1e-12, 1e-7, 1e-3)),
    *(Variant(("add", "__add__", "__radd__"), f"epsilon {e:g}", "norm-eps", _added_eps(e), 2) for e in (1e-5, 1e-6, 1e-8, 1e-12, 1e-7, 1e-3)),
    *(Variant(("layer_norm", "rms_norm"), f"statistics of each of {n} parts of the channels", "tp-norm-local-statistics", _parts(n, -1), 2)
      for n in (2, 4, 8)),
    *(Variant(("mean",), f"statistics of each of {n} parts of the channels", "tp-norm-local-statistics", _local_mean(n), 2)
      for n in (2, 4, 8)),
    *(Variant(("group_norm",), f"statistics of each of {n} parts of the picture", "groupnorm-per-tile", _parts(n, d), 2)
      for n in (2, 3, 4) for d in (-1, -2, 2)),
    Variant(CHUNKS, "the first two parts are exchanged", "parts-exchanged", _swap(0, 1), 2),
    Variant(CHUNKS, "the fourth and fifth part are exchanged", "parts-exchanged", _swap(3, 4), 3),
    Variant(CHUNKS, "the second and third part are exchanged", None, _swap(1, 2), 3),
    Variant(CHUNKS, "the first and third part are exchanged", None, _swap(0, 2), 3),
    Variant(CHUNKS, "the halves are exchanged", None, _order(_halves_exchanged), 3),
    Variant(("cat", "concat", "concatenate"), "what is concatenated stands in the other order", "sp-concat-order", _cat_exchanged, 3),
    Variant(("interpolate",), "bilinear interpolation", "decoder-upsample-mode", _interpolate("bilinear", False), 1),
    Variant(("interpolate",), "bilinear interpolation with aligned corners", "decoder-upsample-mode", _interpolate("bilinear", True), 1),
    Variant(("interpolate",), "nearest interpolation", "decoder-upsample-mode", _interpolate("nearest"), 1),
    Variant(("interpolate",), "nearest-exact interpolation", "decoder-upsample-mode", _interpolate("nearest-exact"), 1),
    Variant(("interpolate",), "bicubic interpolation", "decoder-upsample-mode", _interpolate("bicubic", False), 1),
    Variant(("pad", "_pad"), "padded on the other sides", "encoder-downsample-padding", _pad(_other_sides), 1),
    *(Variant((), f"one result is rounded to {str(d).removeprefix('torch.')}", "rounding", rounded(d), 6)
      for d in (torch.bfloat16, torch.float16)),
    *(Variant((), f"one function is computed in {str(d).removeprefix('torch.')}", "rounding", computed_in(d), 6)
      for d in (torch.bfloat16, torch.float16)),
    Variant(ARITHMETIC, "only its first operand is used", None, _first, 4),
    Variant(ARITHMETIC, "only its second operand is used", None, _second, 4),
    Variant((), "the sign of one result is reversed", None, _negated, 7),
)  # fmt: skip


def scale_for(size: int) -> float:
    return 1 / math.sqrt(size)
