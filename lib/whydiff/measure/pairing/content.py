"""Tensors recognised by what they hold: the same values in whatever layout, shared rows or columns, or much the same values."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from whydiff.measure.pairing.digest import Held, normed, sample
from whydiff.measure.pairing.tree import mutual_best

# Correlations below this are no sign of one origin; and one must be this many standard errors away from 0 (Fisher's z).
SIMILAR, BEYOND_CHANCE = 0.5, 6.0
CLEAR = 0.05  # by which the best correlation must exceed the next best
MOST_SLICES = 64


@dataclasses.dataclass(frozen=True)
class ParameterPair:
    """Rows of a reference tensor (n, ...) and the rows of a candidate tensor that hold them; None: all, in order."""

    reference: str
    candidate: str
    kind: str  # equal, reshaped, packed, transposed, reordered, rearranged, fused; scaled, changed
    evidence: str  # name, values, rows, columns, similarity, module, neighbours
    similarity: float = 1.0
    rows_reference: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    rows_candidate: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    scale: float | None = None  # candidate / reference, where one factor explains the difference
    axes: tuple[str, str] = ("rows", "rows")  # "columns" where the lines in `rows_*` of that side are its columns

    @property
    def exact(self) -> bool:
        """Are the values the same, in whatever layout?"""
        return self.kind not in ("scaled", "changed")


def relate(a: Held, b: Held, dtype: torch.dtype) -> ParameterPair:
    """How b holds the values of a, which are the same as a multiset; and for reordered rows, where in b each row of a is."""

    def found(kind: str, lines: np.ndarray | None = None, axes: tuple[str, str] = ("rows", "rows")) -> ParameterPair:
        return ParameterPair(a.name, b.name, kind, "values", 1.0, None, lines, axes=axes)

    if same_values(a.tensor, b.tensor, dtype):
        return found("equal" if a.shape == b.shape else "reshaped")
    x, y = a.digest(dtype), b.digest(dtype)
    if np.array_equal(x.rows, y.rows):
        return found("packed")
    if np.array_equal(x.rows, y.columns):
        return found("transposed")
    if _permuted(x.rows, y.rows):
        return found("reordered", located(x.rows, y.rows))
    if _permuted(x.columns, y.columns):
        return found("reordered")
    if _permuted(x.rows, y.columns):
        return found("reordered", located(x.rows, y.columns), ("rows", "columns"))
    return found("rearranged")


def same_values(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> bool:
    if a.numel() != b.numel():
        return False
    a, b = a.reshape(-1), b.reshape(-1).to(a.device)
    return torch.equal(a.to(dtype), b.to(dtype)) if a.dtype != b.dtype else torch.equal(a, b)


def _permuted(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(np.sort(a), np.sort(b))


def located(part: np.ndarray, whole: np.ndarray) -> np.ndarray | None:
    """The place in `whole` of each entry of `part`, if every place is certain: no entry may occur twice."""
    order = np.argsort(whole, kind="stable")
    at = np.searchsorted(whole[order], part).clip(max=len(whole) - 1)
    if len(np.unique(whole)) != len(whole) or not np.array_equal(whole[order][at], part):
        return None
    return order[at]


def shared_lines(mine: list[Held], theirs: list[Held], dtype: torch.dtype, axes: tuple[str, str]) -> list[ParameterPair]:
    """Pairs that have rows (or columns) in common, as a fused matrix has with its parts.

    `axes` says which lines of either side are held against each other: ``("rows", "columns")`` finds parts in a matrix that
    is stored transposed. A line that a side has twice says nothing; it is filled in where the lines around it agree.
    """
    (hashes_a, owner_a, line_a), (hashes_b, owner_b, line_b) = _lines(mine, dtype, axes[0]), _lines(theirs, dtype, axes[1])
    _, i, j = np.intersect1d(hashes_a, hashes_b, assume_unique=True, return_indices=True)
    found = []
    edges = np.stack([owner_a[i], owner_b[j]])
    for a, b in np.unique(edges, axis=1).T:
        here = (edges[0] == a) & (edges[1] == b)
        x, y = line_a[i][here], line_b[j][here]
        all_x, all_y = getattr(mine[a].digest(dtype), axes[0]), getattr(theirs[b].digest(dtype), axes[1])
        order = np.argsort(x)
        x, y = x[order], y[order]
        if len(x) < 2 or len(x) * 4 < min(len(all_x), len(all_y)):
            continue
        kind = "fused"
        if len(np.unique(y - x)) == 1:
            shift = int(y[0] - x[0])
            x = np.arange(max(0, -shift), min(len(all_x), len(all_y) - shift))
            y = x + shift
            if not np.array_equal(all_x[x], all_y[y]):
                kind = "changed"
        elif len(x) < min(len(all_x), len(all_y)):
            kind = "changed"
        if kind == "fused" and len(x) == len(all_x) == len(all_y):
            kind = "reordered"
        share = float((all_x[x] == all_y[y]).mean())
        evidence = "rows" if axes == ("rows", "rows") else "columns"
        found.append(ParameterPair(mine[a].name, theirs[b].name, kind, evidence, share, x, y, axes=axes))
    return found


def _lines(tensors: list[Held], dtype: torch.dtype, axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of lines that occur once among all tensors, with the tensor and the place of each."""
    parts = [getattr(t.digest(dtype), axis) for t in tensors]
    hashes = np.concatenate([*parts, np.zeros(0, dtype=np.int64)])
    owner = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    line = np.concatenate([*(np.arange(len(p)) for p in parts), np.zeros(0, dtype=np.int64)]).astype(np.int64)
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    once = first[counts == 1]
    return hashes[once], owner[once], line[once]


@dataclasses.dataclass(frozen=True)
class Slice:
    """Consecutive rows of a tensor."""

    held: Held
    start: int
    stop: int

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.held.height

    @property
    def rows(self) -> np.ndarray | None:
        return None if self.whole else np.arange(self.start, self.stop)

    @property
    def values(self) -> torch.Tensor:
        return self.held.matrix[self.start : self.stop]


def similar(mine: list[Slice], theirs: list[Slice]) -> list[ParameterPair]:
    """Pairs of slices whose values correlate clearly more than with anything else, in rows or transposed."""
    found = []
    for count in {s.values.numel() for s in mine} & {s.values.numel() for s in theirs}:
        a, b = ([s for s in side if s.values.numel() == count] for side in (mine, theirs))
        if count < 8:
            continue
        straight = _correlations([s.values for s in a], [s.values for s in b])
        turned = _correlations([s.values.T for s in a], [s.values for s in b])
        best = np.maximum(straight, turned)
        used = min(count, 2048)
        for i, j in mutual_best(best, CLEAR):
            r = best[i, j]
            if r >= SIMILAR and math.atanh(min(r, 1 - 1e-12)) * math.sqrt(used - 3) >= BEYOND_CHANCE:
                found.append(_changed(a[i], b[j], float(r), "similarity", turned=turned[i, j] > straight[i, j]))
    return found


def _correlations(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> np.ndarray:
    return normed(torch.stack([sample(t).cpu() for t in mine])) @ normed(torch.stack([sample(t).cpu() for t in theirs])).T


def _changed(a: Slice, b: Slice, r: float, evidence: str, turned: bool = False) -> ParameterPair:
    x, y = sample(a.values.T if turned else a.values).double().cpu(), sample(b.values).double().cpu()
    scale = float(torch.dot(x, y) / torch.dot(x, x).clamp_min(1e-300))
    proportional = scale != 0 and float((y - scale * x).norm()) <= 1e-2 * float(y.norm())
    kind = "scaled" if proportional and abs(scale - 1) > 1e-2 else "changed"
    return ParameterPair(a.held.name, b.held.name, kind, evidence, r, a.rows, b.rows, scale if kind == "scaled" else None)


def compared(a: Slice, b: Slice, dtype: torch.dtype | None, evidence: str) -> ParameterPair:
    """The pair of two slices known to belong together for another reason than their values."""
    if dtype is not None and same_values(a.values, b.values, dtype):
        kind = "fused" if not (a.whole and b.whole) else "equal" if a.held.shape == b.held.shape else "reshaped"
        return ParameterPair(a.held.name, b.held.name, kind, evidence, 1.0, a.rows, b.rows)
    if not (a.held.tensor.is_floating_point() and b.held.tensor.is_floating_point()):
        return ParameterPair(a.held.name, b.held.name, "changed", evidence, 0.0, a.rows, b.rows)
    return _changed(a, b, float(_correlations([a.values], [b.values])[0, 0]), evidence)


def slices(tensor: Held, covered: np.ndarray, heights: set[int]) -> list[Slice]:
    """The rows that are still open: the gaps as they are, and cut into pieces of the heights that others have."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], covered, [True]]).astype(int)))
    found = []
    for start, stop in edges.reshape(-1, 2):
        found.append(Slice(tensor, int(start), int(stop)))
        smaller = [h for h in heights if h < stop - start]
        step = math.gcd(*smaller, int(stop - start)) if smaller else 0
        cuts = [Slice(tensor, at, at + h) for h in smaller for at in range(int(start), int(stop) - h + 1, step)]
        found += cuts if len(cuts) <= MOST_SLICES else []
    return found
