"""Which relations can hold between two large tensors at all: one pass over both, then a look at some of their elements.

The searches of relations.py go over all elements in float64 dozens of times. Of most of them a sample shows that they are in vain.
Nothing is accepted here: what may hold is searched for among all elements.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from whydiff.measure import elementwise, rearranged
from whydiff.measure.compare import totals
from whydiff.measure.relations import Pair, pair_of

LARGE = 1 << 18  # elements; below, a search takes less than a second
_SAMPLE = 1 << 16
_SLICES = 8  # indices of an axis whose channels are looked at
# What is left over of a relation that holds exceeds 32 times the tolerance, over a random sample, in less than one case of 1000:
# Markov's inequality for its square. Where less than a quarter of the elements differ, a sample says too little.
_FAR = 32.0
_DIFFERING = 0.25


@dataclasses.dataclass(frozen=True)
class Look:
    """Some elements of both tensors, and what one pass over all of them told."""

    a: Tensor
    b: Tensor
    places: Tensor  # (n,) flat
    pair: Pair  # of those
    norms: tuple[float, float]  # of the whole tensors

    def possible(self, search) -> bool:
        """May this search find something among all elements?"""
        if search in (rearranged.moved_axes, rearranged.permuted, rearranged.reordered):
            mine, theirs = self.norms
            return abs(mine - theirs) <= (self.pair.floor + 1e-9) * mine  # moving values keeps their norm
        if search is rearranged.shifted:
            return self._shifted()
        if search is rearranged.region:
            return self._region()
        if search is elementwise.per_channel:
            return any(self._channels(axis) for axis in range(self.a.ndim))
        if search is elementwise.independent:
            return False  # it explains nothing, and the sample says it as well
        return any(_near(relation) for relation in search(self.pair))

    def _channels(self, axis: int) -> bool:
        size = self.a.shape[axis]
        if size < 2:
            return False
        which = torch.linspace(0, size - 1, min(size, _SLICES)).round().long()
        few = [t.index_select(axis, which).movedim(axis, 0).reshape(len(which), -1) for t in (self.a, self.b)]
        few = [t[:, :: max(1, t.shape[1] * len(which) // _SAMPLE)] for t in few]
        found = elementwise.per_channel(pair_of(*few, self.pair.floor))
        return any(_near(relation) for relation in found if relation.parameters["axis"] == 0)

    def _shifted(self) -> bool:
        """Do the values of some elements stand a few indices further along an axis?"""
        few = self.places[:1024]
        index, mine = torch.unravel_index(few, self.a.shape), self.pair.x[:1024]
        tolerance = max(self.pair.floor, 2 * self.pair.rounding)
        for axis, size in enumerate(self.a.shape):
            for by in (k * sign for k in range(1, min(rearranged.MOST_SHIFT, size // 2) + 1) for sign in (1, -1)):
                inside = (index[axis] + by >= 0) & (index[axis] + by < size)
                there = self.b[tuple((i + by if n == axis else i)[inside] for n, i in enumerate(index))].double()
                if float((there - mine[inside]).norm()) <= _FAR * tolerance * float(mine[inside].norm()):
                    return True
        return False

    def _region(self) -> bool:
        """Is there an index at the rim of some axis at which no sampled element differs?"""
        x, y = self.pair.x, self.pair.y
        rms = self.norms[0] / self.a.numel() ** 0.5
        far = (y - x).abs() > 6 * self.pair.floor * rms + 2 * self.pair.rounding * x.abs()
        index = torch.unravel_index(self.places[far], self.a.shape)
        return any(not len(i) or int(i.min()) > 0 or int(i.max()) < size - 1 for i, size in zip(index, self.a.shape, strict=True))


def look(a: Tensor, b: Tensor, floor: float) -> Look | None:
    """A look at two tensors of one shape; None where it would say too little: they are small, few elements differ, or a value is
    not finite."""
    if a.numel() < LARGE:
        return None
    whole = totals(a, b, everything=False)
    if whole.nonfinite_a or whole.nonfinite_b or whole.equal:
        return None
    places = torch.randint(a.numel(), (_SAMPLE,), generator=torch.Generator().manual_seed(0))
    index = torch.unravel_index(places, a.shape)
    pair = pair_of(*(t[tuple(i.to(t.device) for i in index)] for t in (a, b)), floor)
    if float((pair.x != pair.y).double().mean()) < _DIFFERING:
        return None
    return Look(a, b, places, pair, (whole.norm_a**0.5, whole.norm_b**0.5))


def _near(relation) -> bool:
    return relation.residual <= _FAR * relation.tolerance
