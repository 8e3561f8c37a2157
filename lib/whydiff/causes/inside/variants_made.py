"""How each variant changes one call of a torch function: small makers of `apply(function, *args, **kwargs) -> result`."""

from __future__ import annotations

import dataclasses
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


def attention(change):
    def apply(function, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest):
        q, k, v, mask, causal, factor = change(query, key, value, attn_mask, is_causal, scale)
        return function(q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=causal, scale=factor, **rest)

    return apply


def needs_mask(change):
    def with_mask(q, k, v, mask, causal, scale):
        if mask is None:
            raise NotHere
        return q, k, v, change(mask, q), causal, scale

    return attention(with_mask)


def inverted(mask, query):
    """What is kept is left out, and the reverse."""
    if mask.dtype == torch.bool:
        return ~mask
    return torch.where(mask < -1.0, 0.0, torch.finfo(mask.dtype).min).to(mask.dtype)


def kept(mask):
    return mask if mask.dtype == torch.bool else mask > -1.0




# --- norms -----------------------------------------------------------------------------------------------------------


def epsilon(value: float):
    """Norms of torch.nn.functional with another epsilon."""

    def apply(function, x, *args, **kwargs):
        name = function.__name__
        names = {"layer_norm": ("normalized_shape", "weight", "bias", "eps"), "rms_norm": ("normalized_shape", "weight", "eps"),
                 "group_norm": ("num_groups", "weight", "bias", "eps")}[name]  # fmt: skip
        given = dict(zip(names, args)) | kwargs
        return function(x, **(given | {"eps": value}))

    return apply


def added_eps(value: float):
    """`variance + eps` with another number: norms written out by hand add it to a mean of squares."""

    def apply(function, x, other, *rest, **kwargs):
        if not isinstance(x, torch.Tensor):
            x, other = other, x
        if not isinstance(other, float) or not 0 < other < 1e-2 or not isinstance(x, torch.Tensor):
            raise NotHere
        return function(x, value)

    return apply


def skipped(function, x, *args, **kwargs):
    return x.clone()


def parts_apart(count: int, dim: int):
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


def local_mean(count: int):
    """A mean over the last axis taken in each of its parts: rms norms written out by hand."""

    def apply(function, x, dim=None, keepdim=False, **kwargs):
        if dim not in (-1, (-1,), [-1], x.dim() - 1) or not keepdim or x.shape[-1] % count:
            raise NotHere
        means = x.unflatten(-1, (count, -1)).mean(-1, keepdim=True)
        return means.expand(*means.shape[:-1], x.shape[-1] // count).flatten(-2)

    return apply


# --- activations -----------------------------------------------------------------------------------------------------


def tanh_or_exact(function, x, *args, approximate="none", **kwargs):
    approximate = args[0] if args else approximate
    return F.gelu(x, approximate="none" if approximate == "tanh" else "tanh")


def as_other(other):
    return lambda function, x, *args, **kwargs: other(x)


# --- order -----------------------------------------------------------------------------------------------------------


def ordered(pick):
    def apply(function, *args, **kwargs):
        parts = function(*args, **kwargs)
        if not isinstance(parts, (tuple, list)) or len(parts) < 2:
            raise NotHere
        order = pick(len(parts))
        if order is None or len({tuple(parts[i].shape) for i in range(len(parts))}) > 1:
            raise NotHere
        return tuple(parts[i] for i in order)

    return apply


def swap(i: int, j: int):
    def pick(count):
        if max(i, j) >= count:
            return None
        order = list(range(count))
        order[i], order[j] = order[j], order[i]
        return order

    return ordered(pick)


def halves_exchanged(count):
    return [*range(count // 2, count), *range(count // 2)] if count % 2 == 0 and count > 2 else None


def cat_exchanged(function, tensors, dim=0, **kwargs):
    if len(tensors) != 2:
        raise NotHere
    return function([tensors[1], tensors[0]], dim, **kwargs)


# --- spatial ---------------------------------------------------------------------------------------------------------


def interpolate(mode, align=None):
    def apply(function, x, size=None, scale_factor=None, mode_=None, align_corners=None, **kwargs):
        kwargs.pop("mode", None)
        options = {} if align is None else {"align_corners": align}
        used = {4: mode, 3: {"bilinear": "linear"}.get(mode, mode), 5: {"bilinear": "trilinear"}.get(mode, mode)}.get(x.dim())
        return function(x, size=size, scale_factor=scale_factor, mode=used, **options)

    return apply


def padded(new):
    """`F.pad(x, (0, 1, 0, 1))` on the other sides."""

    def apply(function, x, pad, *args, **kwargs):
        pad = tuple(pad)
        if len(pad) < 4 or not any(pad):
            raise NotHere
        return function(x, new(pad), *args, **kwargs)

    return apply


def other_sides(pad):
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


def first_operand(function, x, other=None, *args, **kwargs):
    if not isinstance(x, torch.Tensor) or x.shape != function(x, other, *args, **kwargs).shape:
        raise NotHere
    return x.clone()


def second_operand(function, x, other, *args, **kwargs):
    if not isinstance(other, torch.Tensor) or other.shape != function(x, other, *args, **kwargs).shape:
        raise NotHere
    return other.clone()


def negated(function, *args, **kwargs):
    result = function(*args, **kwargs)
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        raise NotHere
    return -result


def factor(change):
    """Multiplied with (or divided by) another constant; `change(constant) -> constant`."""

    def apply(function, x, other, *args, **kwargs):
        if isinstance(x, float) and isinstance(other, torch.Tensor):
            return function(change(x), other, *args, **kwargs)
        if not isinstance(x, torch.Tensor) or not isinstance(other, float) or other <= 0 or other == 1.0:
            raise NotHere
        return function(x, change(other), *args, **kwargs)

    return apply
