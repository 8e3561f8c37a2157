"""Fits that several experiments share: one tensor as scale and offset of another, over all of it or channel by channel."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor

from whydiff.measure.layouts import find_layout
from whydiff.measure.tensors import unit_rounding

# Each of multiplying, adding and storing errs by half an epsilon of its terms; twice that for both sides' own rounding.
ROUNDINGS = 8


@dataclasses.dataclass(frozen=True)
class Affine:
    """target = scale · source + offset. Tensors of one element for all, or of one for each channel (axis 1)."""

    scale: Tensor
    offset: Tensor
    residual: float  # relative L2 of what is left of the target

    @property
    def one(self) -> bool:
        return self.scale.numel() == 1

    def apply(self, source: Tensor) -> Tensor:
        shape = [1] * source.ndim if self.one else [1, -1] + [1] * (source.ndim - 2)
        return self.scale.reshape(shape) * source.double() + self.offset.reshape(shape)


def affine(source: Tensor, target: Tensor, channels: bool = True) -> Affine | None:
    """The plainest affine map between two tensors of one shape (B, C, ...) that holds to rounding, or None."""
    x, y = source.double(), target.double()
    if x.shape != y.shape or not x.numel() or not bool(x.isfinite().all() and y.isfinite().all()):
        return None
    rounding = max(unit_rounding(source), unit_rounding(target))
    axes = list(range(x.ndim))
    for over in (axes, [i for i in axes if i != 1]) if channels and x.ndim > 2 else (axes,):
        count = math.prod(x.shape[i] for i in over)
        if count < 4:
            continue
        mean_x, mean_y = x.mean(over, keepdim=True), y.mean(over, keepdim=True)
        spread = ((x - mean_x) ** 2).sum(over, keepdim=True)
        if not bool((spread > 0).all()):
            continue
        scale = ((x - mean_x) * (y - mean_y)).sum(over, keepdim=True) / spread
        offset = mean_y - scale * mean_x
        rest = float((y - scale * x - offset).norm())
        terms = float((scale * x).norm()) + float(offset.expand_as(x).norm()) + float(y.norm())
        if rest <= ROUNDINGS * rounding * terms:
            return Affine(scale.flatten(), offset.flatten(), rest / float(y.norm()) if float(y.norm()) else 0.0)
    return None


def affine_in_a_layout(source: Tensor, target: Tensor) -> tuple[Affine, Tensor] | None:
    """As `affine`, also where the source must be unpacked, transposed or merged first; with the source in that layout."""
    if source.shape == target.shape:
        found = affine(source, target)
        return None if found is None else (found, source)
    if source.numel() != target.numel():
        return None
    for layout in find_layout(target, source, by_values=False):
        moved = layout.apply(source)
        found = affine(moved, target)
        if found is not None and not found.scale.abs().max() < 1e-9:
            return found, moved
    return None
