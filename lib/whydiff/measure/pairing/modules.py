"""Which module, and which tensor inside it, is which of the other implementation's? Both ran on the same input.

The order of evidence: modules whose own parameters are counterparts; equal outputs; the same place among what is already
paired. Where a defect has made everything after it different, equality is gone, but each output still relates to others
of its own side as its counterpart does on the other side, and still stands among the same neighbours.
"""

from __future__ import annotations

import difflib

import numpy as np
import torch

from whydiff.measure.pairing import rest
from whydiff.measure.pairing.content import ParameterPair
from whydiff.measure.pairing.digest import Tree, held
from whydiff.measure.pairing.found import ModulePair, ModulePairing, kinds, last, runs, within
from whydiff.measure.pairing.outputs import EQUAL, Output, difference, features, joined, real, similarities
from whydiff.measure.pairing.parameters import Matcher, ParameterPairing
from whydiff.measure.pairing.tree import Neighbours, affinity, mutual_best, parent

SIMILAR = 0.5  # pairs less similar than this do not count unless their relations to other outputs are the same
ROUNDING = 1e-5  # pairs around that differ less than this leave no room for a counterpart that is not the same
RELATED = 0.8  # likeness of two outputs' relations to others that stands for similarity where that is gone
ACTIVATIONS = {"gelu", "silu", "relu", "swish", "mish", "tanh", "sigmoid"}
CLEAR = 0.05  # by which the best counterpart must be better than the next


def pair_modules(reference_root: Tree | None, candidate_root: Tree | None, reference_outputs: list[Output],
                 candidate_outputs: list[Output]) -> ModulePairing:  # fmt: skip
    """Pair the outputs of two runs on the same input, in the order in which they were made.

    The roots are modules, or components by name (then outputs are called `component/dotted`); None: only outputs are known.
    """
    matcher = Matcher(held(reference_root or {}), held(candidate_root or {}))
    work = _Pairing(matcher, reference_root or {}, candidate_root or {}, reference_outputs, candidate_outputs)
    matcher.by_content()
    work.by_name()
    work.by_parameters()
    work.by_value()
    work.by_part()
    matcher.by_module(work.module_pairs())
    work.by_parameters()
    work.by_relations()
    matcher.by_module(work.module_pairs())
    matcher.by_structure()
    work.by_parameters()
    work.by_relations()
    work.by_contents()
    return work.result(matcher.result() if matcher.all[0] or matcher.all[1] else None)


class _Pairing:
    """The events of both sides, what is paired, and what is open."""

    def __init__(self, matcher: Matcher, reference_root: Tree, candidate_root: Tree, mine: list[Output], theirs: list[Output]):
        self.matcher, self.events = matcher, ([real(e) for e in mine], [real(e) for e in theirs])
        self.kinds = tuple(kinds(root) for root in (reference_root, candidate_root))
        self.open = tuple({i for i, e in enumerate(side) if e.tensor.numel()} for side in self.events)
        self.names = tuple({e.name for e in side} for side in self.events)
        self.by_module: tuple[dict, dict] = ({}, {})
        for side, events in enumerate(self.events):
            for index, event in enumerate(events):
                self.by_module[side].setdefault(event.module, []).append(index)
        self.pairs: dict[tuple[int, int], list[ModulePair]] = {}
        self.anchors: list[tuple[str, str, torch.Tensor, torch.Tensor]] = []  # modules, tensors in one layout
        self.linked: set[tuple[str, str]] = set()
        self.incomparable: list[tuple[str, str]] = []
        self.same: np.ndarray | None = None

    # --- evidence ----------------------------------------------------------------------------------------------

    def by_name(self) -> None:
        """The same tree twice: believed only where the names of parameters were found to mean the same."""
        if not self.matcher.names_mean_the_same:
            return
        index = {e.name: j for j, e in enumerate(self.events[1])}
        for i, event in enumerate(self.events[0]):
            j = index.get(event.name)
            if j is not None and self.events[1][j].tensor.numel() == event.tensor.numel():
                self._add(i, j, "name")

    def by_parameters(self) -> None:
        """Modules whose own parameters are counterparts; parts of their outputs where parameters are fused."""
        for (a, b), pair in self._links().items():
            if (a, b) in self.linked:
                continue
            self.linked.add((a, b))
            events = [self.by_module[side].get(name, []) for side, name in enumerate((a, b))]
            for i, j in self._calls(*events):
                if not self._add_rows(i, j, pair):
                    self.incomparable.append((self.events[0][i].name, self.events[1][j].name))

    def _links(self) -> dict[tuple[str, str], ParameterPair]:
        """The most telling pair of parameters of each pair of modules: the one with most values, exact ones first."""
        found: dict[tuple[str, str], ParameterPair] = {}
        rank = {}
        for pair in self.matcher.pairs:
            key = parent(pair.reference), parent(pair.candidate)
            size = self.matcher.all[0][pair.reference].count
            worth = (pair.exact, len(self.matcher.all[0][pair.reference].shape) > 1, size)
            if key not in found or worth > rank[key]:
                found[key], rank[key] = pair, worth
        return found

    def _calls(self, mine: list[int], theirs: list[int]) -> list[tuple[int, int]]:
        """Which call (branch, output) of one module is which of its counterpart: by name, else by order."""
        names = {self.events[1][j].which: j for j in theirs}
        pairs = [(i, names[self.events[0][i].which]) for i in mine if self.events[0][i].which in names]
        return pairs if len(pairs) == min(len(mine), len(theirs)) else list(zip(mine, theirs, strict=len(mine) == len(theirs)))

    def by_value(self) -> None:
        """Outputs that are the same but for rounding. Of several the one in the same place is taken, or none."""
        mine, theirs = self._open()
        table = self._similarity(mine, theirs)
        equal = np.zeros(table.shape, dtype=bool)
        for x, y in zip(*np.nonzero(table >= 1 - EQUAL), strict=True):
            equal[x, y] = difference(self.events[0][mine[x]].tensor, self.events[1][theirs[y]].tensor) <= EQUAL
        scores = np.where(equal, table + self._place(mine, theirs, equal), -np.inf)
        for x, y in mutual_best(scores, 0.0):
            self._add(mine[x], theirs[y], "values")

    def by_part(self) -> None:
        """Outputs that one side has joined (text and image tokens in one sequence): two of the other are its two ends."""
        for side in (0, 1):
            for j in sorted(self.open[1 - side]):
                whole = self.events[1 - side][j].tensor
                ends: dict[int, list[tuple[int, tuple[int, int, int]]]] = {0: [], 1: []}
                for i in sorted(self.open[side]):
                    at = joined(self.events[side][i].tensor, whole)
                    if at is not None:
                        ends[int(at[1] > 0)].append((i, at))
                whole_axis = [(x, y) for x in ends[0] for y in ends[1] if x[1][0] == y[1][0] and x[1][2] == y[1][1]]
                if len(whole_axis) == 1:
                    for i, at in whole_axis[0]:
                        self._add_part(side, i, j, at)

    def by_relations(self) -> None:
        """What is left where a defect has made the sides differ: similarity, place and relation to other outputs together."""
        while True:
            mine, theirs = self._open()
            level = rest.level(self.pairs, mine)
            if not theirs or not (level > ROUNDING).any():
                return
            direct, alike = self._similarity(mine, theirs), self._relations(mine, theirs)
            possible = np.isfinite(direct) & ((direct >= SIMILAR) | (alike >= RELATED)) & (level > ROUNDING)[:, None]
            for x, y in zip(*np.nonzero(possible), strict=True):
                a, b = self.events[0][mine[x]], self.events[1][theirs[y]]
                possible[x, y] = self._same_kind(a, b) and difference(a.tensor, b.tensor) <= max(0.1, 3 * level[x])
            scores = np.where(possible, np.where(np.isfinite(direct), direct, 0.0) + self._place(mine, theirs, possible) + alike, -np.inf)
            scores -= self._crossed(mine, theirs, possible)
            found = mutual_best(scores, CLEAR)
            for x, y in found:
                self._add(mine[x], theirs[y], "relations", confidence=min(1.0, float(scores[x, y]) / 3))
            if not found:
                return

    def by_contents(self) -> None:
        """Modules that contain the same layers, where something after them departs: they may be what made it depart."""
        departs = max((i for (i, _), pairs in self.pairs.items() if max(p.difference for p in pairs) > ROUNDING), default=-1)
        inner = [(p.reference, p.candidate) for p in self.matcher.pairs]
        for a, b in rest.same_contents(inner, *(self.kinds[side] for side in (0, 1))):
            events = [self.by_module[side].get(name, []) for side, name in enumerate((a, b))]
            if len(events[0]) != len(events[1]):
                continue
            if any(self._several(side, self.events[side][k]) for side in (0, 1) for k in events[side]):
                # Implementations order their outputs as they like: the only one left is the other's only one left.
                events = [[k for k in events[side] if k in self.open[side]] for side in (0, 1)]
                events = events if len(events[0]) == len(events[1]) == 1 else [[], []]
            for i, j in zip(*events, strict=True):
                if i < departs and self.events[0][i].tensor.numel() == self.events[1][j].tensor.numel():
                    self._add(i, j, "contents", 0.8)

    # --- what speaks for a pair --------------------------------------------------------------------------------

    def _open(self) -> tuple[list[int], list[int]]:
        return sorted(self.open[0]), sorted(self.open[1])

    def _similarity(self, mine: list[int], theirs: list[int]) -> np.ndarray:
        return similarities([self.events[0][i].tensor for i in mine], [self.events[1][j].tensor for j in theirs])

    def _place(self, mine: list[int], theirs: list[int], possible: np.ndarray) -> np.ndarray:
        """(m, n) in about [-0.1, 1.2]: neighbours in the tree, kind of module, order of execution, shape and name."""
        own, other = ([self.events[side][i] for i in which] for side, which in enumerate((mine, theirs)))
        names = [(p.reference, p.candidate) for p in self.matcher.pairs if p.evidence != "neighbours"]
        names += [(a, b) for a, b, *_ in self.anchors]
        scores = affinity(*(Neighbours([[n[side]] for n in names]) for side in (0, 1)), [e.module for e in own], [e.module for e in other])
        for x, y in zip(*np.nonzero(possible), strict=True):
            a, b = own[x], other[y]
            scores[x, y] += 0.1 * self._same_kind(a, b) + 0.01 * (a.tensor.shape == b.tensor.shape)
            scores[x, y] += 0.02 * difflib.SequenceMatcher(None, last(a.name), last(b.name), autojunk=False).quick_ratio()
            scores[x, y] += 0.1 * (last(a.name) == last(b.name))
            scores[x, y] -= 0.1 * abs(mine[x] / len(self.events[0]) - theirs[y] / len(self.events[1]))
        return scores

    def _crossed(self, mine: list[int], theirs: list[int], possible: np.ndarray) -> np.ndarray:
        """(m, n) in [0, 1]: of the pairs in the neighbourhood, the share that runs before the one and after the other."""
        pairs = np.array(list(self.pairs)).reshape(-1, 2)
        spaces = [Neighbours([[self.events[side][k].module] for k in pairs[:, side]]) for side in (0, 1)]
        near = [{k: spaces[side].near(self.events[side][k].module) for k in which} for side, which in enumerate((mine, theirs))]
        found = np.zeros(possible.shape)
        for x, y in zip(*np.nonzero(possible), strict=True):
            weight = near[0][mine[x]] * near[1][theirs[y]]
            crossed = (pairs[:, 0] < mine[x]) != (pairs[:, 1] < theirs[y])
            found[x, y] = weight[crossed].sum() / max(weight.sum(), 1e-12)
        return found

    def _same_kind(self, a: Output, b: Output) -> bool:
        """Leaves of one kind (both norms, both activations), blocks with the same parameters inside, or functions."""
        x, y = self.kinds[0].get(a.module), self.kinds[1].get(b.module)
        if x is None or y is None:
            return True
        if x[1] != y[1] and x[0] & y[0] & ACTIVATIONS:  # an activation that brings its own projection
            return True
        if x[1] or y[1]:
            inside = [{p for p in self.matcher.pairs if within((p.reference, p.candidate)[side], name)}
                      for side, name in enumerate((a.module, b.module))]  # fmt: skip
            if not (x[1] and y[1] and inside[0] and inside[0] == inside[1]):
                return False
            # Which of several outputs is which, the parameters say only where they are the same, and in the same order.
            several = any(self._several(side, e) for side, e in enumerate((a, b)))
            return not several or all(p.exact and p.kind != "reordered" for p in inside[0])
        return bool(x[0] & y[0])

    def _several(self, side: int, event: Output) -> bool:
        return " output " in event.name or f"{event.name} output 1" in self.names[side]

    def _relations(self, mine: list[int], theirs: list[int]) -> np.ndarray:
        """(m, n) in [0, 1]: are two outputs related to the outputs already paired in the same way, each on its own side?"""
        if not self.anchors:
            return np.zeros((len(mine), len(theirs)))
        profiles = []
        for side, which in enumerate((mine, theirs)):
            own = similarities([self.events[side][i].tensor for i in which], [anchor[2 + side] for anchor in self.anchors])
            profiles.append(np.where(np.isfinite(own), np.abs(own), 0.0))
        strong = [p**3 * (p.max(1, keepdims=True) >= 0.3) for p in profiles]
        norms = [np.linalg.norm(p, axis=1, keepdims=True).clip(min=1e-12) for p in strong]
        return (strong[0] / norms[0]) @ (strong[1] / norms[1]).T

    # --- keeping the books -------------------------------------------------------------------------------------

    def _add(self, i: int, j: int, evidence: str, confidence: float = 1.0) -> bool:
        if i not in self.open[0] or j not in self.open[1]:
            return False
        self.open[0].discard(i)
        self.open[1].discard(j)
        return self._keep(i, j, self.events[0][i].tensor, self.events[1][j].tensor, evidence, confidence)

    def _add_rows(self, i: int, j: int, pair: ParameterPair) -> bool:
        """The outputs of two modules with common parameters, as far as they are the outputs of the same rows.

        Lines of a weight that is stored transposed may be inputs or outputs: what the outputs say decides.
        """
        lines, heights, tensors = (pair.rows_reference, pair.rows_candidate), [], []
        for side, index, name in ((0, i, pair.reference), (1, j, pair.candidate)):
            held = self.matcher.all[side][name]
            heights.append(held.height if pair.axes[side] == "rows" else held.width)
            tensors.append(features(self.events[side][index].tensor, lines[side], heights[side]))
        if any(t is None for t in tensors) or tensors[0].numel() != tensors[1].numel():
            return False
        if "columns" in pair.axes and similarities(tensors[:1], tensors[1:])[0, 0] < SIMILAR:
            return False
        self.open[0].discard(i)
        self.open[1].discard(j)
        return self._keep(i, j, *tensors, "parameters", 1.0 if pair.exact else 0.9, *map(runs, lines, heights))

    def _add_part(self, side: int, i: int, j: int, at: tuple[int, int, int]) -> None:
        """Event i of a side as the part `at` (axis, start, stop) of event j of the other one."""
        whole = self.events[1 - side][j].tensor.narrow(at[0], at[1], at[2] - at[1])
        part = self.events[side][i].tensor
        self.open[side].discard(i)
        self.open[1 - side].discard(j)
        if side == 0:
            self._keep(i, j, part, whole, "values", 1.0, None, (at[1:],))
        else:
            self._keep(j, i, whole, part, "values", 1.0, (at[1:],), None)

    def _keep(self, i, j, a: torch.Tensor, b: torch.Tensor, evidence, confidence, part_a=None, part_b=None) -> bool:
        mine, theirs = self.events[0][i], self.events[1][j]
        similarity = float(similarities([a], [b])[0, 0])
        self.anchors.append((mine.module, theirs.module, a, b))
        self.pairs.setdefault((i, j), []).append(ModulePair(mine.name, theirs.name, similarity, difference(a, b), evidence, confidence,
                                                            part_a, part_b))  # fmt: skip
        return True

    def module_pairs(self) -> list[tuple[str, str]]:
        return [(a, b) for a, b, *_ in self.anchors]

    def result(self, parameters: ParameterPairing | None) -> ModulePairing:
        aliases = [rest.aliases(self.events[side], self.open[side]) for side in (0, 1)]
        unpaired = [[self.events[side][i].name for i in sorted(self.open[side]) if self.events[side][i].name not in aliases[side]]
                    for side in (0, 1)]  # fmt: skip
        pairs = [pair for key in sorted(self.pairs) for pair in self.pairs[key]]
        return ModulePairing(pairs, *unpaired, *aliases, parameters, self.incomparable)
