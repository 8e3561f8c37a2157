"""Changes of place that leave every value as it was: axes transposed, flipped, rolled, channels permuted, a region."""

import itertools
import math

import torch
from torch import Tensor

from whydiff.measure.relations import Pair, Relation

MOST_CHANNELS = 4096
MOST_SHIFT = 32


def moved_axes(pair: Pair):
    """Two axes swapped or all permuted, an axis flipped, halves of the batch exchanged, an axis rolled."""
    x = pair.x
    if not _same_values(pair):
        return
    for perm in itertools.permutations(range(x.ndim)) if x.ndim <= 5 else ():
        moved = [i for i, p in enumerate(perm) if i != p]
        if moved and all(x.shape[p] == x.shape[i] for i, p in enumerate(perm)) and max(x.shape[i] for i in moved) > 1:
            words = f"candidate is reference with axes {moved} permuted" if len(moved) > 2 else \
                f"candidate is reference with axes {moved[0]} and {moved[1]} transposed"
            yield pair.judge("transposed", {"axes": list(perm)}, x.permute(perm), words, 1.5 + 0.1 * (len(moved) - 2),
                             exact=True)
    wide_axes = [i for i in range(x.ndim) if x.shape[i] > 1]
    for count in (1, 2):
        for axes in itertools.combinations(wide_axes, count):
            yield pair.judge("flipped", {"axes": list(axes)}, x.flip(axes),
                             f"candidate is reference flipped along axis {' and '.join(map(str, axes))}",
                             1.5 + 0.1 * count, exact=True)
    for axis in wide_axes:
        size = x.shape[axis]
        if axis == 0 and size % 2 == 0 and size > 2:
            yield pair.judge("halves_swapped", {"axis": 0}, x.roll(size // 2, 0),
                             "candidate is reference with the halves of axis 0 (the branches) exchanged", 1.5, exact=True)
        by = _roll(pair, axis)
        if by:
            yield pair.judge("rolled", {"axis": axis, "by": by}, x.roll(by, axis),
                             f"candidate is reference rolled by {by} along axis {axis}", 1.8, exact=True)


def permuted(pair: Pair):
    """The slices along one axis in another order, found by matching each slice with the one it resembles most."""
    if not _same_values(pair):
        return
    for axis, size in enumerate(pair.x.shape):
        if not 2 <= size <= MOST_CHANNELS or pair.x.numel() // size < 2:
            continue
        order = _matching(pair, axis)
        if order is not None and order != list(range(size)):
            shown = order if size <= 64 else order[:64]
            yield pair.judge("permuted", {"axis": axis, "order": shown},
                             pair.x.index_select(axis, torch.tensor(order)),
                             f"candidate is reference with the indices of axis {axis} in the order "
                             f"{shown[:8]}{' ...' if size > 8 else ''}", 4, exact=True)


def reordered(pair: Pair):
    """The same values, each as often, in another order altogether."""
    if not _same_values(pair) or pair.x.numel() < 2:
        return
    x, y = pair.x.flatten().sort().values, pair.y.flatten().sort().values
    norm = float(x.norm())
    residual = float((y - x).norm()) / norm if norm else math.inf
    # Sorting brings any two samples of one distribution close, so only exact agreement counts as evidence.
    yield Relation("reordered", {}, residual, "candidate has the same values as reference in another order", 6, 0.0,
                   residual == 0.0)


def shifted(pair: Pair):
    """Moved by k along an axis, with other values where it came from: the overlap is equal, at least half of the axis."""
    x, y = pair.x, pair.y
    for axis, size in enumerate(x.shape):
        for by in (k * sign for k in range(1, min(MOST_SHIFT, size // 2) + 1) for sign in (1, -1)):
            rest = size - abs(by)
            mine, theirs = x.narrow(axis, max(0, -by), rest), y.narrow(axis, max(0, by), rest)
            norm = float(mine.norm())
            # values that do not change along the axis fit every shift
            if not norm or float((x.narrow(axis, max(0, by), rest) - mine).norm()) <= 1e-3 * norm:
                continue
            residual, tolerance = float((theirs - mine).norm()) / norm, max(pair.floor, 2 * pair.rounding)
            if residual <= tolerance:
                yield Relation("shifted", {"axis": axis, "by": by}, residual,
                               f"candidate is reference shifted by {by} along axis {axis}", 6.5, tolerance, pair.distinct >= 4)


def region(pair: Pair):
    """Equal except in one box of indices; the residual is that outside the box."""
    x, y = pair.x, pair.y
    rms = float(x.norm()) / math.sqrt(x.numel())
    # An element differs beyond 6 standard deviations of the floor's noise or two roundings of itself.
    far = (y - x).abs() > 6 * pair.floor * rms + 2 * pair.rounding * x.abs()
    if not bool(far.any()):
        return
    start, stop = zip(*(_extent(far, axis) for axis in range(x.ndim)), strict=True) if x.ndim else ((), ())
    box = tuple(slice(i, j) for i, j in zip(start, stop, strict=True))
    inside = torch.zeros_like(far)
    inside[box] = True
    outside = ~inside
    # Zeros that agree (padding) are no evidence that the rest agrees.
    if int(x[outside].count_nonzero()) < 4:
        return
    norm = float(x[outside].norm())
    residual = float((y - x)[outside].norm()) / norm
    tolerance = max(pair.floor, 2 * pair.rounding)
    axes = {str(i): [a, b] for i, (a, b) in enumerate(zip(start, stop, strict=True)) if b - a < x.shape[i]}
    where = ", ".join(f"{a} to {b - 1} of axis {i}" for i, (a, b) in axes.items())
    inner = float((y - x)[inside].norm()) / (float(x[inside].norm()) or math.nan)
    parameters = {"box": axes, "share": round(float(inside.double().mean()), 4),
                  "inside": float(f"{inner:.3g}") if math.isfinite(inner) else None}
    yield Relation("region", parameters, residual, f"candidate differs from reference only at indices {where}", 7,
                   tolerance, residual <= tolerance)


def _extent(far: Tensor, axis: int) -> tuple[int, int]:
    """From which index along an axis up to which something is true."""
    there = far.movedim(axis, 0).reshape(far.shape[axis], -1).any(1).nonzero()
    return int(there[0]), int(there[-1]) + 1


def _same_values(pair: Pair) -> bool:
    """Rearranging keeps sum and norm; the allowance is the floor, and 1e-9 for the order of the float64 sums."""
    allowance = pair.floor + 1e-9
    nx, ny = float(pair.x.norm()), float(pair.y.norm())
    apart = abs(float(pair.x.sum()) - float(pair.y.sum()))
    return abs(nx - ny) <= allowance * nx and apart <= allowance * nx * math.sqrt(pair.x.numel())


def _slices(x: Tensor, axis: int) -> Tensor:
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def _roll(pair: Pair, axis: int) -> int | None:
    """The circular shift with the largest correlation between both sides, by FFT along the axis."""
    spectra = (torch.fft.rfft(_slices(t, axis), dim=0) for t in (pair.y, pair.x))
    product = next(spectra) * next(spectra).conj()
    correlation = torch.fft.irfft(product.sum(1), n=pair.x.shape[axis])
    by = int(correlation.argmax())
    return (by if by <= pair.x.shape[axis] // 2 else by - pair.x.shape[axis]) or None


def _matching(pair: Pair, axis: int) -> list[int] | None:
    """For each index of the candidate the reference's index with the nearest slice; None unless it is one to one."""
    a, b = _slices(pair.x, axis), _slices(pair.y, axis)
    # 256 columns tell slices of real data apart, and keep thousands of channels affordable.
    columns = slice(None, None, max(1, a.shape[1] // 256))
    order = torch.cdist(b[:, columns], a[:, columns]).argmin(1).tolist()
    return order if len(set(order)) == len(order) else None


def part_of(reference: torch.Tensor, candidate: torch.Tensor) -> str:
    """", the candidate's is the first 15 of 30 along axis 1" for tensors of which one begins or ends with the other; else ""."""
    a, b = reference.shape, candidate.shape
    axes = [i for i, (x, y) in enumerate(zip(a, b)) if x != y] if len(a) == len(b) else []
    if len(axes) != 1:
        return ""
    axis, short = axes[0], min((reference, candidate), key=torch.numel)
    long = candidate if short is reference else reference
    n, of = short.shape[axis], long.shape[axis]
    for word, start in (("first", 0), ("last", of - n)):
        if torch.equal(long.narrow(axis, start, n).to(short), short):
            role = "reference" if short is reference else "candidate"
            return f", the {role}'s is the {word} {n} of the other's {of} along axis {axis}"
    return ""
