"""Tensors of which only figures are known (mean, extremes, ...): how far apart two of them must be at least.

With d = candidate - reference, |mean(d)|, and the change of the mean of absolute values and of the standard deviation, are at most the
root mean square of d. So what a figure moved by, relative to the tensor's own root mean square, is what the tensors are apart at least.
An extreme that moved proves that an element did. Equal figures prove nothing.
"""

from __future__ import annotations

import math

import torch

from whydiff.measure.sketches import Sketch, numbers

KNOWN = ("mean", "abs_mean", "std", "sample_std", "sum", "min", "max")  # std over n, sample_std over n - 1
JUDGED = ("mean", "abs_mean", "std", "min", "max")
ROUNDING = 2.0**-20  # of figures taken in float32: cascaded sums of 10^9 numbers lose a few units in the last place


def figures_of(tensor: torch.Tensor) -> dict[str, float]:
    """All of KNOWN, in float64; NaN where a value is NaN. Empty for an empty or complex tensor."""
    if tensor.numel() == 0 or tensor.is_complex():
        return {}
    values = numbers(tensor).to(torch.float64)
    return completed({"mean": float(values.mean()), "abs_mean": float(values.abs().mean()), "std": float(values.std(unbiased=False)),
                      "min": float(values.min()), "max": float(values.max())}, len(values))  # fmt: skip


def figures_of_sketch(sketch: Sketch) -> dict[str, float]:
    """What a sketch has of them: mean and spread of the finite values."""
    return completed({"mean": sketch.mean, "std": sketch.norm / math.sqrt(sketch.count)}, sketch.count) if sketch.count else {}


def completed(figures: dict[str, float], count: int | None) -> dict[str, float]:
    """With what follows from them and the number of elements."""
    found = {name: float(value) for name, value in figures.items()}
    if count is not None and count > 1:
        shrink = math.sqrt((count - 1) / count)
        follows = (("mean", "sum", 1 / count), ("sum", "mean", count), ("std", "sample_std", shrink), ("sample_std", "std", 1 / shrink))
        for name, other, factor in follows:
            if other in found:
                found.setdefault(name, found[other] * factor)
    return found


def apart(reference: dict[str, float], candidate: dict[str, float]) -> dict[str, float]:
    """{figure: by how much it moved, relative to the tensor's own size} of the figures that both have; inf where one alone is finite.

    A figure whose scale is not known is left out: a mean or a sum near 0 may move by any share of itself and mean nothing.
    """
    found = {}
    for name in JUDGED:
        if name not in reference or name not in candidate:
            continue
        mine, theirs = reference[name], candidate[name]
        if not (math.isfinite(mine) and math.isfinite(theirs)):
            found[name] = 0.0 if mine == theirs or (math.isnan(mine) and math.isnan(theirs)) else math.inf
            continue
        scale = max(_scale(side, name in ("min", "max")) for side in (reference, candidate))
        if mine == theirs or scale > 0:
            found[name] = 0.0 if mine == theirs else abs(mine - theirs) / scale
    return found


def _scale(figures: dict[str, float], extreme: bool) -> float:
    """The root mean square, or what is nearest to it among the figures; of extremes, the larger."""
    if extreme:
        sizes = [abs(figures[name]) for name in ("min", "max") if name in figures]
        return max((size for size in sizes if math.isfinite(size)), default=0.0)
    if "mean" in figures and "std" in figures:
        return math.hypot(figures["mean"], figures["std"])
    return max((abs(figures[name]) for name in ("std", "abs_mean") if name in figures), default=0.0)
