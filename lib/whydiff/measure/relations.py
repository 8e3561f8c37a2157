"""Which simple change turns the reference into the candidate?"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.measure.tensors import UNIT_ROUNDING, as_tensor, wide


@dataclass(frozen=True)
class Relation:
    """candidate = f(reference), up to ``residual``: the relative L2 distance of candidate from f(reference) that is left.

    ``accepted``: the residual is within ``tolerance``, which is the given floor or what rounding of the dtype allows,
    whichever is larger, and the change explains most of the difference. ``cost`` orders relations: 0 has nothing to
    choose, then roughly one per number that was fitted.
    """

    kind: str
    parameters: dict = field(hash=False)
    residual: float
    words: str  # "candidate = 1000 · reference"
    cost: float
    tolerance: float
    accepted: bool

    def to_dict(self) -> dict:
        """JSON-safe; the residual with 3 significant digits."""
        residual = float(f"{self.residual:.3g}") if math.isfinite(self.residual) else None
        return {"kind": self.kind, **self.parameters, "residual": residual}

    def __str__(self) -> str:
        return f"{self.words} (left over: {self.residual:.3g}, allowed: {self.tolerance:.3g})"


@dataclass(frozen=True)
class Pair:
    """Both tensors in float64 with what every search needs to know about them."""

    x: Tensor  # reference, float64
    y: Tensor  # candidate, float64
    floor: float  # relative L2 that is no difference
    rounding: float  # largest relative error of one rounding on the coarser side
    integer: bool  # the candidate's dtype has integers only
    distance: float  # ‖y - x‖
    distinct: int  # different (x, y) pairs, counted up to 64: evidence for a fit

    def left_over(self, prediction: Tensor) -> float:
        """‖y - prediction‖ / ‖prediction‖, 0 where equal; inf where the prediction is zero and y is not."""
        if self.integer:
            prediction = prediction.round()
        rest = float((self.y - prediction).norm())
        if rest == 0.0:
            return 0.0
        norm = float(prediction.norm())
        return rest / norm if norm > 0 and math.isfinite(rest) else math.inf

    def allowed(self, *terms: Tensor) -> float:
        """Residual that rounding explains: each operation errs by at most u of its result, so u times the norms of the
        terms, their sum and its stored copy, over the norm of the sum (Higham 2002, section 3.1)."""
        norm = float(self.y.norm()) or 1.0
        size = sum(float(t.norm()) for t in terms) + 2 * norm
        return max(self.floor, self.rounding * size / norm)

    def judge(self, kind: str, parameters: dict, prediction: Tensor, words: str, cost: float, *terms: Tensor,
              exact: bool = False, free: int = 0) -> Relation:
        """The relation with its residual. ``exact``: nothing is computed, so only the floor is allowed;
        ``free``: numbers fitted, which need at least two more distinct pairs than themselves as evidence."""
        residual = self.left_over(prediction)
        tolerance = self.floor if exact else self.allowed(*(terms or (prediction,)))
        rest = residual * float(prediction.norm()) if residual else 0.0
        # A fit of p numbers to n unrelated differences leaves 1 - p/n of their square; a quarter is far below that.
        explains = kind == "identical" or rest**2 <= self.distance**2 / 4
        return Relation(kind, parameters, residual, words, cost, tolerance,
                        residual <= tolerance and explains and (not free or self.distinct >= free + 2))


def find_relation(reference, candidate, floor: float = 0.0) -> Relation | None:
    """The cheapest accepted relation, or None when no simple change explains the difference.

    ``floor`` is the relative L2 distance that is noise. Raises Trouble when the shapes differ: a layout comes first.
    """
    return next((relation for relation in _search(reference, candidate, floor) if relation.accepted), None)


def relations(reference, candidate, floor: float = 0.0) -> list[Relation]:
    """All relations tried, accepted ones first, then by cost and residual; the last resorts (independent) included."""
    found = list(_search(reference, candidate, floor))
    return sorted(found, key=lambda r: (not r.accepted, r.cost, r.residual))


def _search(reference, candidate, floor: float):
    from whydiff.measure import elementwise, rearranged, sampled

    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    if a.shape != b.shape:
        raise Trouble(f"shapes differ: reference {list(a.shape)}, candidate {list(b.shape)}. Find a layout first.")
    if a.numel() == 0:
        return
    if a.is_complex() or b.is_complex():
        a, b = (torch.view_as_real(t.to(torch.complex128)) for t in (a, b))
    # Each search is a generator of Relations, cheapest first; the costs are those of its first relation.
    searches = [
        elementwise.without_numbers,  # zeroed, sign, ranges: cost 1
        elementwise.rounded,  # 1
        rearranged.moved_axes,  # transposed, flipped, halves swapped, rolled: 1.5
        elementwise.linear,  # scale, offset, both: 2 and 3
        elementwise.transferred,  # 2.2: gamma, sRGB
        elementwise.clamped,  # 2.5
        rearranged.permuted,  # channels matched: 4
        elementwise.per_channel,  # 5
        rearranged.reordered,  # same values somewhere else: 6
        rearranged.shifted,  # 6.5: a prefix more or less
        rearranged.region,  # 7
        elementwise.independent,  # 9
    ]
    few = sampled.look(a, b, floor)
    if few is not None:
        searches = [search for search in searches if few.possible(search)]
        yield from elementwise.independent(few.pair)
        if not searches:
            return
    pair = pair_of(a, b, floor)
    if not bool(torch.isfinite(pair.x).all() & torch.isfinite(pair.y).all()):
        yield elementwise.nonfinite(pair)
        return
    yield pair.judge("identical", {}, pair.x, "candidate equals reference", 0, exact=True)
    if pair.distance == 0:
        return
    for search in searches:
        yield from search(pair)


def pair_of(a: Tensor, b: Tensor, floor: float) -> Pair:
    """Two tensors of one shape, widened."""
    x, y = wide(a), wide(b)
    sample = torch.stack([t.reshape(-1)[:: max(1, t.numel() // 4096)] for t in (x, y)], 1)
    distinct = len(torch.unique(sample[torch.isfinite(sample).all(1)], dim=0))
    return Pair(x, y, floor, max(_grid_rounding(a, x), _grid_rounding(b, y)), not b.is_floating_point(),
                float((y - x).norm()), min(distinct, 64))


def _grid_rounding(original: Tensor, values: Tensor) -> float:
    """Rounding of the dtype, or of the coarser one whose values it holds: a float32 tensor often carries bfloat16."""
    unit = UNIT_ROUNDING.get(original.dtype, 0.0)
    fractions = int((values != values.round()).sum())
    if unit and fractions >= 8:  # integers fit every grid, so they say nothing about precision
        for dtype in (torch.bfloat16, torch.float16):
            if UNIT_ROUNDING[dtype] > unit and torch.equal(values.to(dtype).double(), values):
                return UNIT_ROUNDING[dtype]
    return unit
