"""Places of which one side, or both, recorded a fingerprint: compared by sketches, the whole side's being made on the fly."""

from __future__ import annotations

import dataclasses
import math

from whydiff.engine.lab import Lab
from whydiff.engine.rows import Row, finer
from whydiff.evidence.floor import STANDS_OUT, Floor, flips_floor, stored_floor
from whydiff.evidence.traces.tensor_files import tensor_sha256
from whydiff.evidence.traces.trace import Event, Sketched, Trace, dtype_name, sketch_size
from whydiff.measure.pictures import round_to_8_bit
from whydiff.measure.sketches import RESOLUTION, SIZE, SMALL, Sketch, affine, correlation, distance, error_of, sketch_of
from whydiff.places import Place, walk_key

WORDS = "estimated from sketches"
_ON_A_LINE = 1e-5  # relative distance from a line at most: float32 rounding of the values and of the sketches
_EIGHT_BIT = 1 / 255 / math.sqrt(12)  # root mean square of what rounding to 8 bit changes, of values in [0, 1]


def places_of(reference: Trace, candidate: Trace) -> list[Place]:
    """Those that both have, and of which one has only a fingerprint, in walking order."""
    either = [place for place in candidate.places if place in candidate.sketches or place in reference.sketches]
    known = set(reference.places) - reference.figures.keys() - candidate.figures.keys()
    return sorted((place for place in either if place in known), key=walk_key)


def sketched(lab: Lab) -> bool:
    """Has one of the traces only fingerprints, or figures, of some places?"""
    return any(trace is not None and (trace.sketches or trace.figures) for trace in lab.traces.values())


def sketch_rows(lab: Lab, layouts: bool = True) -> list[Row]:
    """A row for each such place, its difference estimated. `layouts`: the same values in another shape are no difference."""
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    if not (reference.sketches or candidate.sketches):
        return []
    places = places_of(reference, candidate)
    if places:
        lab.notes.append(f"differences at {len(places)} of the places compared are {within(SIZE)} in 95 of 100 cases ({SIZE} numbers for a tensor; "
                         f"for a module's output {SMALL}, ±{100 * error_of(SMALL):.1f} %)")  # fmt: skip
    return [row_of(place, _held(reference, place), _held(candidate, place), lab.floor, layouts) for place in places]


def within(size: int) -> str:
    return f"{WORDS}, ±{100 * error_of(size):.1f} %"


def row_of(place: Place, mine: Event | Sketched, theirs: Event | Sketched, floors: Floor, layouts: bool = True) -> Row:
    """One place, by what is held of it on either side."""
    floor = max(floors.of_run(place, finer(mine.tensor, theirs.tensor)), RESOLUTION)
    shapes = f"shapes differ: {tuple(mine.tensor.shape)} against {tuple(theirs.tensor.shape)}"
    same_shape = mine.tensor.shape == theirs.tensor.shape
    if mine.tensor.numel() != theirs.tensor.numel() or not (layouts or same_shape):
        return Row(place, None, 0.0, why=shapes, estimated=True)
    if _bits_equal(mine, theirs):
        return Row(place, 0.0, floor, equal=True)
    a, b, rounding = _pair(place, mine, theirs)
    if a.count != b.count or a.count != mine.tensor.numel() * (2 if mine.tensor.is_complex() else 1):
        return Row(place, None, floor, why=_not_finite(a.count - b.count), estimated=True)
    floor = max(floor, rounding * math.sqrt(a.count) / max(a.size, 1e-300), _flips(place, mine, theirs, a, floors))
    difference = distance(a, b)
    if not same_shape and a.unordered == b.unordered:
        difference = 0.0  # the same values in another layout
    if not same_shape and difference > STANDS_OUT * floor:
        return Row(place, None, 0.0, why=shapes, estimated=True)
    if not math.isfinite(difference):
        return Row(place, None, floor, why="the reference is zero", estimated=True)
    return Row(place, difference, floor, equal=difference == 0.0, estimated=True)


def _flips(place: Place, mine, theirs, sketch: Sketch, floors: Floor) -> float:
    """The floor of images in 8 bit: values at the border of two levels fall to either side."""
    if place.probe != "image" or "8 bit" not in (mine.component, theirs.component):
        return 0.0
    decoded = max((value for p, value in floors.inherited.items() if p.probe == "decoded"), default=0.0)
    return flips_floor(sketch.count, sketch.size, STANDS_OUT * max(decoded, RESOLUTION)) / STANDS_OUT


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What `whydiff compare` prints of a place whose sketches were compared; takes a `Comparison`'s part."""

    row: Row
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    correlation: float | None

    @property
    def equal(self) -> bool:
        return self.row.equal

    @property
    def difference(self) -> float | None:
        return self.row.difference

    def to_dict(self) -> dict:
        return {"shape": list(self.shape), "dtype_reference": self.dtypes[0], "dtype_candidate": self.dtypes[1], "equal": self.equal,
                "relative_l2": _short(self.difference), "correlation": _short(self.correlation), "why": self.row.why or None,
                "estimated": _short(error_of(sketch_size(self.row.place))) if self.row.estimated else None}  # fmt: skip

    def __str__(self) -> str:
        head = f"{list(self.shape)} {' against '.join(dict.fromkeys(self.dtypes))}"
        if self.equal and not self.row.estimated:
            return f"{head}: equal, by their hashes"
        if self.row.why:
            return f"{head}: {self.row.why}"
        together = "" if self.correlation is None else f", correlation {self.correlation:.3g}"
        return f"{head}: relative L2 {self.difference:.3g}{together} ({within(sketch_size(self.row.place))})"


def estimates(reference: Trace, candidate: Trace) -> dict[Place, Estimate]:
    """All places that two traces share and of which one has only a fingerprint."""
    floors, found = stored_floor(reference), {}
    for place in places_of(reference, candidate):
        mine, theirs = _held(reference, place), _held(candidate, place)
        row = row_of(place, mine, theirs, floors)
        together = correlation(*_pair(place, mine, theirs)[:2]) if row.estimated and not row.why else None
        found[place] = Estimate(row, tuple(mine.tensor.shape), (dtype_name(mine.tensor), dtype_name(theirs.tensor)), together)
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def words_of(lab: Lab, place: Place, candidate: Trace) -> str:
    """How a difference is known, and the line on which the candidate's values lie, if they do."""
    words = within(sketch_size(place))
    fitted = affine(*_pair(place, _held(lab.traces["reference"], place), _held(candidate, place))[:2])
    if fitted is None or fitted[2] > _ON_A_LINE:
        return words
    scale, offset, _ = fitted
    scaled = "reference" if abs(scale - 1) < _ON_A_LINE else f"{scale:.5g} × reference"
    shifted = f" {'+' if offset > 0 else '-'} {abs(offset):.5g}" if abs(offset) > _ON_A_LINE * max(1.0, abs(scale)) else ""
    return words if scaled + shifted == "reference" else f"candidate = {scaled}{shifted}; {words}"


def _held(trace: Trace, place: Place) -> Event | Sketched:
    return trace.events.get(place) or trace.sketches[place]


def _bits_equal(mine: Event | Sketched, theirs: Event | Sketched) -> bool:
    """Same shape, type and bits."""
    if mine.tensor.shape != theirs.tensor.shape or mine.tensor.dtype != theirs.tensor.dtype:
        return False
    return _sha256(mine) == _sha256(theirs)


def _sha256(held: Event | Sketched) -> str:
    return held.sha256 if isinstance(held, Sketched) else tensor_sha256(held.tensor)


def _pair(place: Place, mine, theirs) -> tuple[Sketch, Sketch, float]:
    """Both sketches, and what rounding of one side alone to 8 bit changes at most (an image's; root mean square)."""
    eight = [entry.component == "8 bit" for entry in (mine, theirs)]
    rounding, sketches = 0.0, []
    for entry, other_eight, own_eight in ((mine, eight[1], eight[0]), (theirs, eight[0], eight[1])):
        coarser = place.probe == "image" and other_eight and not own_eight
        if isinstance(entry, Sketched):
            sketches.append(entry.sketch)
            rounding = max(rounding, 1.5 * _EIGHT_BIT / STANDS_OUT if coarser else 0.0)
        else:
            sketches.append(sketch_of(round_to_8_bit(entry.tensor) if coarser else entry.tensor))
    return sketches[0], sketches[1], rounding


def _not_finite(more: int) -> str:
    return "candidate's values are not finite" if more > 0 else "reference's values are not finite" if more < 0 else (
        "both sides have values that are not finite")  # fmt: skip
