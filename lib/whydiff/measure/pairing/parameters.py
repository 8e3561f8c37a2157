"""Which parameter of one module tree is which of the other's? Told by content first, then by what stands around.

The order of evidence: equal values (whatever the layout), shared rows and columns (fused matrices), similar values, the
same module as a pair already found, the same neighbours in the tree. Names count only where content shows that they mean
the same on both sides. Tensors of equal content that nothing tells apart stay a group: a wrong pair is worse than none.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from whydiff.measure.pairing.content import ParameterPair, Slice, compared, relate, same_values, shared_lines, similar, slices
from whydiff.measure.pairing.digest import Held, Tree, common_dtype, held
from whydiff.measure.pairing.tree import Neighbours, affinity, mutual_best, parent

AXES = (("rows", "rows"), ("columns", "columns"), ("rows", "columns"), ("columns", "rows"))


@dataclasses.dataclass(frozen=True)
class ParameterPairing:
    """Pairs, what has no counterpart, and groups of equal content of which nobody can say which is which."""

    pairs: list[ParameterPair]
    unpaired_reference: list[str]
    unpaired_candidate: list[str]
    interchangeable: list[tuple[list[str], list[str]]]
    made: list[str]  # unpaired too, but made by code and in no checkpoint
    partly: list[str] = dataclasses.field(default_factory=list)  # paired, but for these rows: `name rows 0:96`
    total_reference: int = 0
    total_candidate: int = 0

    @property
    def complete(self) -> bool:
        """Every value of each side is found on the other."""
        return all(p.exact for p in self.pairs) and not (self.unpaired_reference or self.unpaired_candidate or self.partly)

    @property
    def paired_reference(self) -> set[str]:
        return {p.reference for p in self.pairs}

    @property
    def share(self) -> float:
        """Of the tensors of both sides (those that code makes apart), how many are paired one by one."""
        grouped = sum(len(a) + len(b) for a, b in self.interchangeable)
        alone = len(self.unpaired_reference) + len(self.unpaired_candidate)
        total = self.total_reference + self.total_candidate - len(self.made)
        return 1.0 - (alone + grouped) / total if total else 1.0

    def compared(self) -> dict:
        """How many tensors of the candidate were compared and which were not, in the words of the verdict."""
        alone = [f"reference: {n}" for n in self.unpaired_reference] + [f"candidate: {n}" for n in self.unpaired_candidate]
        grouped = sum(len(names) for _, names in self.interchangeable)
        return {"parameters": len({p.candidate for p in self.pairs}) + grouped,
                "parameters_unpaired": alone + [f"in part: {n}" for n in self.partly]}  # fmt: skip


def pair_parameters(reference: Tree, candidate: Tree) -> ParameterPairing:
    """Pair the parameters and buffers of two trees (modules, or components by name)."""
    matcher = Matcher(held(reference), held(candidate))
    matcher.by_content()
    matcher.by_structure()
    return matcher.result()


class Matcher:
    """Pairs found so far, and what is still open on either side. Evidence is asked for from the strongest to the weakest."""

    def __init__(self, reference: dict[str, Held], candidate: dict[str, Held]):
        self.all = (reference, candidate)
        self.open = tuple({n: t for n, t in side.items() if t.count} for side in self.all)
        self.pairs: list[ParameterPair] = []
        self.covered: tuple[dict, dict] = ({}, {})
        self.groups: list[tuple[list[str], list[str]]] = []
        self.names_mean_the_same = False

    # --- evidence ----------------------------------------------------------------------------------------------

    def by_content(self) -> None:
        """Everything that values alone can tell."""
        self._by_name()
        for dtypes in self._dtype_pairs():
            self._equal(*dtypes)
        for dtypes in self._dtype_pairs():
            for axes in AXES:
                self._shared(*dtypes, axes)
        self.by_module()
        self._similar()

    def by_module(self, modules: Iterable[tuple[str, str]] = ()) -> None:
        """The other tensors of modules that are counterparts: `modules`, and those of which a tensor is paired."""
        links: dict[tuple[str, str], list[ParameterPair]] = {pair: [] for pair in modules}
        for pair in self.pairs:
            if pair.evidence != "neighbours":
                links.setdefault((parent(pair.reference), parent(pair.candidate)), []).append(pair)
        inside = [collections.defaultdict(list), collections.defaultdict(list)]
        for side in (0, 1):
            for tensor in self.open[side].values():
                inside[side][tensor.module].append(tensor)
        for (a, b), known in links.items():
            mine, theirs = inside[0].get(a, []), inside[1].get(b, [])
            for x, y in self._by_sign(mine, theirs):
                if x.name in self.open[0] and y.name in self.open[1]:
                    self._same_module(x, y, known)

    def _by_sign(self, mine: list[Held], theirs: list[Held]) -> list[tuple[Held, Held]]:
        """Which tensor of a module is which of its counterpart's: equal values, equal names, or no other choice."""
        mine, theirs = list(mine), list(theirs)
        found = []
        equal = [(x, y) for x in mine for y in theirs if self._readable(x, y) and self._dtype(x, y) is not None
                 and same_values(x.tensor, y.tensor, self._dtype(x, y))]  # fmt: skip
        named = [(x, y) for x in mine for y in theirs if x.leaf == y.leaf]
        only = [(x, y) for x in mine for y in theirs]
        for options in (equal, named, only):
            options = [(x, y) for x, y in options if x in mine and y in theirs]
            for x, y in options:
                if sum(x is a for a, _ in options) == sum(y is b for _, b in options) == 1:
                    found.append((x, y))
                    mine.remove(x)
                    theirs.remove(y)
        return found

    def by_structure(self) -> None:
        """What stands among the same neighbours, one tensor at a time, until nothing more is certain."""
        self.by_module()
        while self._by_neighbours():
            self.by_module()

    # --- the single steps --------------------------------------------------------------------------------------

    def _by_name(self) -> None:
        """Names are believed when most tensors that share one hold the same values or much the same ones."""
        shared = [(a, self.open[1][n]) for n, a in self.open[0].items() if n in self.open[1] and a.shape == self.open[1][n].shape]
        if len(shared) * 2 <= min(len(side) for side in self.open):
            return
        equal = [(a, b) for a, b in shared if self._readable(a, b) and same_values(a.tensor, b.tensor, self._dtype(a, b))]
        telling = sum(a.informative for a, _ in equal)
        rest = [(a, b) for a, b in shared if self._readable(a, b) and not any(a is x for x, _ in equal)]
        pairs = [compared(_whole(a), _whole(b), self._dtype(a, b), "name") for a, b in rest]
        near = sum(p.similarity > 0.5 for p in pairs)
        if (telling + near) * 2 <= sum(a.informative for a, _ in shared):
            return
        self.names_mean_the_same = True
        for pair in [*(ParameterPair(a.name, b.name, "equal", "name") for a, b in equal), *pairs]:
            self._add(pair)

    def _equal(self, mine, theirs) -> None:
        dtype = common_dtype(mine, theirs)
        index: dict = collections.defaultdict(lambda: ([], []))
        for side, (tensors, own) in enumerate(zip(self.open, (mine, theirs), strict=True)):
            for tensor in tensors.values():
                if tensor.readable and tensor.tensor.dtype == own:
                    index[tensor.count, tensor.digest(dtype).total][side].append(tensor)
        for a, b in index.values():
            if len(a) == len(b) == 1 and a[0].informative:
                self._add(relate(a[0], b[0], dtype))
            elif a and b:
                self.groups.append(([t.name for t in a], [t.name for t in b]))

    def _shared(self, mine, theirs, axes) -> None:
        dtype = common_dtype(mine, theirs)
        sides = [[t for t in side.values() if t.readable and len(t.shape) > 1 and t.tensor.dtype == own and t.informative]
                 for side, own in zip(self.open, (mine, theirs), strict=True)]  # fmt: skip
        if all(sides):
            for pair in shared_lines(*sides, dtype, axes):
                self._add(pair)

    def _similar(self) -> None:
        """What is left and correlates; pieces of fused tensors too. A second look finds what the first made room for."""
        for _ in range(2):
            loose = [[t for t in self.open[side].values() if t.readable and t.tensor.is_floating_point() and t.informative
                      and not self._covered(side, t, "columns").any()] for side in (0, 1)]  # fmt: skip
            sides = []
            for side in (0, 1):
                heights = collections.defaultdict(set)
                for tensor in loose[1 - side]:
                    heights[tensor.width].add(tensor.height)
                sides.append([s for t in loose[side] for s in
                              slices(t, self._covered(side, t), heights[t.width] if len(t.shape) > 1 else set())])  # fmt: skip
            found = similar(*sides)
            for pair in found:
                self._add(pair)
            if not found:
                return
            self.by_module()

    def _same_module(self, a: Held, b: Held, links: list[ParameterPair]) -> None:
        dtype = self._dtype(a, b)
        rows = next(((p.rows_reference, p.rows_candidate) for p in links if p.rows_reference is not None or p.rows_candidate is not None),
                    None)  # fmt: skip
        if not self._readable(a, b):
            return
        if rows is None or (a.count == b.count and dtype is not None and same_values(a.tensor, b.tensor, dtype)):
            if a.count == b.count:
                self._add(compared(_whole(a), _whole(b), dtype, "module"))
            return
        x, y = (np.arange(t.height) if r is None else r for t, r in zip((a, b), rows, strict=True))
        if len(x) != len(y) or max(x, default=0) >= a.height or max(y, default=0) >= b.height:
            return
        left, right = a.tensor[x], b.tensor[y]
        equal = dtype is not None and same_values(left, right, dtype)
        kind = ("reordered" if len(x) == a.height == b.height else "fused") if equal else "changed"
        self._add(ParameterPair(a.name, b.name, kind, "module", 1.0 if equal else 0.0, x, y))

    def _by_neighbours(self) -> bool:
        anchors = Neighbours([[p.reference] for p in self.pairs]), Neighbours([[p.candidate] for p in self.pairs])
        found = False
        for mine, theirs in self.groups:
            mine, theirs = [n for n in mine if n in self.open[0]], [n for n in theirs if n in self.open[1]]
            near = affinity(*anchors, mine, theirs)
            for i, j in mutual_best(near, 1e-6):
                a, b = self.open[0][mine[i]], self.open[1][theirs[j]]
                if near[i, j] > 0:
                    self._add(dataclasses.replace(compared(_whole(a), _whole(b), self._dtype(a, b), "neighbours"),
                                                  similarity=float(near[i, j])))  # fmt: skip
                    found = True
        return found

    # --- keeping the books -------------------------------------------------------------------------------------

    def _add(self, pair: ParameterPair) -> None:
        """Keep a pair unless its rows are taken; a tensor is closed when all of its rows, or all of its columns, are."""
        places = []
        for side, name, lines in ((0, pair.reference, pair.rows_reference), (1, pair.candidate, pair.rows_candidate)):
            tensor = self.open[side].get(name)
            if tensor is None:
                return
            taken = self._covered(side, tensor, pair.axes[side])
            at = np.arange(len(taken)) if lines is None else lines
            if taken[at].any():
                return
            places.append((taken, at))
        for side, (taken, at) in enumerate(places):
            taken[at] = True
            if taken.all():
                del self.open[side][(pair.reference, pair.candidate)[side]]
        self.pairs.append(pair)

    def _covered(self, side: int, tensor: Held, axis: str = "rows") -> np.ndarray:
        size = tensor.height if axis == "rows" else tensor.width
        return self.covered[side].setdefault((tensor.name, axis), np.zeros(size, dtype=bool))

    def _partly(self, side: int, tensor: Held) -> list[str]:
        """The rows or columns still open of a tensor of which some are paired."""
        found = []
        for axis in ("rows", "columns"):
            taken = self._covered(side, tensor, axis)
            if taken.any():
                edges = np.flatnonzero(np.diff(np.concatenate([[True], taken, [True]]).astype(int))).reshape(-1, 2)
                found += [f"{tensor.name} {axis} {start}:{stop}" for start, stop in edges]
        return found

    def _dtype(self, a: Held, b: Held):
        return common_dtype(a.tensor.dtype, b.tensor.dtype)

    def _readable(self, a: Held, b: Held) -> bool:
        return a.readable and b.readable

    def _dtype_pairs(self) -> list[tuple]:
        """Which dtypes can hold the same values: equal ones first."""
        sides = [list(dict.fromkeys(t.tensor.dtype for t in side.values())) for side in self.open]
        found = [(a, b) for a, b in itertools.product(*sides) if common_dtype(a, b) is not None]
        return sorted(found, key=lambda pair: pair[0] != pair[1])

    def result(self) -> ParameterPairing:
        groups, open_ = [], [dict(side) for side in self.open]
        for a, b in self.groups:
            a, b = [n for n in a if n in open_[0]], [n for n in b if n in open_[1]]
            if a and len(a) == len(b):
                groups.append((a, b))
                for side, names in enumerate((a, b)):
                    for name in names:
                        del open_[side][name]
        partly, alone = [], ([], [])
        for side, left in enumerate(open_):
            for name, tensor in left.items():
                partly += self._partly(side, tensor)
                if not (tensor.made or self._partly(side, tensor)):
                    alone[side].append(name)
        made = [t.name for side in open_ for t in side.values() if t.made]
        return ParameterPairing(self.pairs, *alone, groups, made, partly, *(len(side) for side in self.all))


def _whole(tensor: Held) -> Slice:
    return Slice(tensor, 0, tensor.height)
