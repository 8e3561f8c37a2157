"""Two recordings of one computation under different names: which tensor of one is which of the other?

Nothing but what was recorded is known: the order, shapes, types, and values or a few figures of them. An alignment of the two
sequences (Needleman and Wunsch 1970) that may leave tensors out on either side; what another order of calls leaves open is paired
afterwards, where the best counterpart is clear, and so are tensors that lie side by side in one of the other side (a fused
projection, a batch of both branches).
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import torch

from whydiff.measure.pairing.outputs import similarities

# Chosen on the small FLUX and its native port, whose counterparts are known from their weights: the same run under other names pairs
# 123 of 127 as they do, the other four with a tensor of the same values; runs of other noise 90 of 117.
# Score below which nothing is a counterpart, and how far logarithms of sizes and quantiles of values may be apart: where most values
# correlate, and where the runs have parted so that little but the order is left.
SAME_RUN, PARTED = (0.15, 0.2, 0.15), (0.05, 0.35, 0.25)
ENOUGH = 0.55  # score from which two tensors out of order may be counterparts
CLEAR = 0.1  # by which that must be better than the next best on either side
CERTAIN = 0.9  # correlation from which a pair is one by its values
PART = 0.95  # correlation from which a tensor is taken for a part of another
QUANTILES = np.linspace(0.02, 0.98, 33)


@dataclasses.dataclass(frozen=True, eq=False)
class Footprint:
    """What is known of one recorded tensor. `tensor`: its values, None where only figures were recorded.

    `figures`: root mean square, then the quantiles QUANTILES of the values divided by it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    figures: np.ndarray | None
    tensor: torch.Tensor | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """One tensor of the reference beside one of the candidate; `part` where one of them is only a part of the other:
    (the side that holds more, its axis, start, stop). `likeness`: how far their values correlate; a pair whose values do not
    was paired by its size and its place in the order."""

    reference: str
    candidate: str
    likeness: float
    part: tuple[str, int, int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Counterparts in the reference's order, and what has none. An alias has the very values of an earlier tensor of its side."""

    pairs: list[Counterpart]
    unpaired_reference: list[str]
    unpaired_candidate: list[str]
    aliases_reference: dict[str, str]
    aliases_candidate: dict[str, str]


def footprint(name: str, tensor: torch.Tensor) -> Footprint:
    values = tensor.detach().flatten()
    values = (torch.view_as_real(values).flatten() if values.is_complex() else values).double()
    values = values[values.isfinite()]
    if values.numel() > 1 << 16:
        values = values[:: values.numel() >> 16]
    rms = float(values.square().mean().sqrt()) if values.numel() else 0.0
    figures = np.concatenate([[rms], np.quantile(values.numpy(), QUANTILES) / (rms or 1.0)]) if values.numel() else None
    return Footprint(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), figures, tensor)


def align_sequences(mine: list[Footprint], theirs: list[Footprint]) -> Sequences:
    """Pair two sequences of recorded tensors. What is no alias and in no pair is listed as unpaired."""
    (mine, first), (theirs, second) = _without_aliases(mine), _without_aliases(theirs)
    if not mine or not theirs:
        return Sequences([], [f.name for f in mine], [f.name for f in theirs], first, second)
    related = likenesses(mine, theirs)
    table = scores(mine, theirs, related, SAME_RUN)
    path = _path(table - SAME_RUN[0])
    if sum(related[i, j] >= CERTAIN for i, j in path) < 0.5 * min(len(mine), len(theirs)):
        table = scores(mine, theirs, related, PARTED)
        path = _path(table - PARTED[0])
    found = [(i, j, float(related[i, j]), None) for i, j in sorted({*path, *_between(path, mine, theirs)})]
    found += _out_of_order(table, related, {f[0] for f in found}, {f[1] for f in found})
    open_mine, open_theirs = ([i for i in range(len(side)) if i not in {f[at] for f in found}] for at, side in enumerate((mine, theirs)))
    for j in open_theirs:
        found += [(i, j, likeness, ("candidate", *part)) for i, likeness, part in _parts(theirs[j], mine, open_mine)]
    for i in open_mine:
        found += [(i, j, likeness, ("reference", *part)) for j, likeness, part in _parts(mine[i], theirs, open_theirs)]
    pairs = [Counterpart(mine[i].name, theirs[j].name, likeness, part) for i, j, likeness, part in sorted(found, key=lambda f: f[:2])]
    return Sequences(pairs, [f.name for f in mine if f.name not in {p.reference for p in pairs}],
                     [f.name for f in theirs if f.name not in {p.candidate for p in pairs}], first, second)  # fmt: skip


def _without_aliases(side: list[Footprint]) -> tuple[list[Footprint], dict[str, str]]:
    """The tensors that have values of their own, and {name: whose values it has} of the others (blocks that end in a layer)."""
    kept, aliases, seen = [], {}, {}
    for entry in side:
        key = None if entry.figures is None else (entry.numel, entry.figures.tobytes())
        if key is None or key not in seen or not entry.figures[0]:
            kept.append(entry)
            seen[key] = entry.name
        else:
            aliases[entry.name] = seen[key]
    return kept, aliases


def likenesses(mine: list[Footprint], theirs: list[Footprint]) -> np.ndarray:
    """(m, n) how far values correlate in the best layout; 0 where they are not known or their numbers differ."""
    known = [[i for i, f in enumerate(side) if f.tensor is not None] for side in (mine, theirs)]
    related = np.zeros((len(mine), len(theirs)))
    if all(known):
        found = similarities(*([_plain(side[i]) for i in which] for side, which in zip((mine, theirs), known, strict=True)))
        related[np.ix_(*known)] = np.nan_to_num(found, nan=0.0, neginf=0.0)
    return related


def scores(mine: list[Footprint], theirs: list[Footprint], related: np.ndarray, tolerance: tuple[float, float, float]) -> np.ndarray:
    """(m, n) how well two tensors go together, about -0.2 to 1, -inf where their numbers of elements differ.

    Values that correlate say most; where the runs have parted, the distribution of values still says something.
    """
    sizes = [np.array([f.numel for f in side]) for side in (mine, theirs)]
    table = np.where(sizes[0][:, None] == sizes[1][None, :], 0.0, -np.inf)
    shapes = _shared([{f.shape} for f in mine], [{f.shape} for f in theirs])
    named = _shared(*([set(_words(f.name)) for f in side] for side in (mine, theirs)))
    return table + 0.35 * _distributions(mine, theirs, *tolerance[1:]) + 0.45 * np.maximum(related, 0.0) ** 2 + 0.1 * (shapes + named)


def _plain(entry: Footprint) -> torch.Tensor:
    tensor = torch.view_as_real(entry.tensor) if entry.tensor.is_complex() else entry.tensor
    return tensor.double() if not tensor.is_floating_point() else tensor


def _distributions(mine: list[Footprint], theirs: list[Footprint], most_size: float, most_shape: float) -> np.ndarray:
    """(m, n) in [-1, 1]: 1 where the values have one size and one distribution, -1 where they have nothing in common."""
    tables = [np.stack([np.zeros(1 + len(QUANTILES)) if f.figures is None else f.figures for f in side]) for side in (mine, theirs)]
    sizes = [np.log(np.maximum(table[:, 0], 1e-12)) for table in tables]
    apart = np.abs(sizes[0][:, None] - sizes[1][None, :]) / most_size
    shape = np.sqrt(np.mean((tables[0][:, None, 1:] - tables[1][None, :, 1:]) ** 2, axis=-1)) / most_shape
    return 2 * np.exp(-0.5 * (apart**2 + shape**2)) - 1


def _shared(mine: list[set], theirs: list[set]) -> np.ndarray:
    """(m, n) which share of the smaller of two sets is in the other, too."""
    column = {item: k for k, item in enumerate(dict.fromkeys(itertools.chain(*mine, *theirs)))}
    marks = [np.zeros((len(side), len(column))) for side in (mine, theirs)]
    for table, side in zip(marks, (mine, theirs), strict=True):
        for row, items in zip(table, side, strict=True):
            row[[column[item] for item in items]] = 1.0
    sizes = [table.sum(1) for table in marks]
    return marks[0] @ marks[1].T / np.maximum(1.0, np.minimum(sizes[0][:, None], sizes[1][None, :]))


def _words(name: str) -> list[str]:
    return [word for word in name.replace("_", " ").replace(".", " ").replace("/", " ").lower().split() if not word.isdigit() and len(word) > 1]


def _path(gain: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of the best path through both sequences: the sum of their gains is largest."""
    rows, columns = gain.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(1, rows + 1):
        row = best[i - 1].copy()
        row[1:] = np.maximum(row[1:], best[i - 1, :-1] + gain[i - 1])
        best[i] = np.maximum.accumulate(row)
    found, i, j = [], rows, columns
    while i > 0 and j > 0:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found[::-1]


def _between(path: list[tuple[int, int]], mine: list[Footprint], theirs: list[Footprint]) -> list[tuple[int, int]]:
    """Pairs of what the path left open between two of its pairs, where both sides have as many tensors of a shape there: what a
    defect has made unlike its counterpart in all but its place."""
    found = []
    for (i, j), (k, m) in itertools.pairwise([(-1, -1), *path, (len(mine), len(theirs))]):
        for shape in dict.fromkeys(mine[n].shape for n in range(i + 1, k)):
            here = [n for n in range(i + 1, k) if mine[n].shape == shape]
            there = [n for n in range(j + 1, m) if theirs[n].shape == shape]
            if len(here) == len(there):
                found += zip(here, there, strict=True)
    return found


def _out_of_order(table: np.ndarray, related: np.ndarray, mine: set[int], theirs: set[int]) -> list[tuple[int, int, float, None]]:
    """Pairs among what the path left open, out of order, where values correlate and either is clearly the other's best."""
    table = np.where(related >= CERTAIN, table, -np.inf)
    table[list(mine)], table[:, list(theirs)] = -np.inf, -np.inf
    found = []
    while table.size and table.max() >= ENOUGH:
        i, j = np.unravel_index(int(table.argmax()), table.shape)
        score, table[i, j] = float(table[i, j]), -np.inf
        if score - max(table[i].max(), table[:, j].max()) >= CLEAR:
            found.append((int(i), int(j), float(related[i, j]), None))
        table[i], table[:, j] = -np.inf, -np.inf
    return found


def _parts(whole: Footprint, others: list[Footprint], which: list[int]) -> list[tuple[int, float, tuple[int, int, int]]]:
    """(index, correlation, (axis, start, stop)) of the tensors that lie side by side with others in `whole`."""
    found = []
    for i in which if whole.tensor is not None else ():
        part, axis = others[i], _longer_axis(others[i].shape, whole.shape)
        if part.tensor is None or axis is None:
            continue
        length, size = part.shape[axis], whole.shape[axis]
        starts = sorted({*range(0, size - length + 1, length), size - length})
        held = similarities([_plain(part)], [_plain(whole).narrow(axis, start, length) for start in starts])[0]
        at = int(np.argmax(held))
        if held[at] >= PART:
            found.append((i, float(held[at]), (axis, starts[at], starts[at] + length)))
    return found


def _longer_axis(part: tuple[int, ...], whole: tuple[int, ...]) -> int | None:
    """The one axis along which `whole` is longer than `part`; None where there is no such axis."""
    longer = [i for i, (a, b) in enumerate(zip(part, whole, strict=False)) if a != b]
    return longer[0] if len(part) == len(whole) and len(longer) == 1 and 0 < part[longer[0]] < whole[longer[0]] else None
