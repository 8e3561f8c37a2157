"""Places of which one side, or both, recorded figures alone: a figure that moved proves a difference, equal ones prove nothing more."""

from __future__ import annotations

import dataclasses
import math

from whydiff.engine.lab import Lab
from whydiff.engine.rows import Row, finer
from whydiff.evidence.floor import STANDS_OUT, Floor, stored_floor
from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.trace import Sketched, Trace, dtype_name
from whydiff.measure.figures import ROUNDING, apart, completed, figures_of, figures_of_sketch
from whydiff.places import Place, walk_key

AGREES = "agrees in all recorded figures"


def places_of(reference: Trace, candidate: Trace) -> list[Place]:
    """Those that both have, and of which one has only figures, in walking order."""
    known = set(reference.places)
    return sorted((p for p in candidate.places if p in known and (p in candidate.figures or p in reference.figures)), key=walk_key)


def figure_rows(lab: Lab) -> list[Row]:
    """A row for each such place. Equal figures are no equal values: none of them is `equal`."""
    found = compared(lab.traces["reference"], lab.traces["candidate"], lab.floor)
    if found:
        lab.notes.append(f"of {len(found)} of the places compared only figures are known; where those agree, values may still differ")
    return [figures.row for figures in found.values()]


@dataclasses.dataclass(frozen=True)
class Figures:
    """One place by its figures; takes a `Comparison`'s part in what `whydiff compare` prints. `moved`: relative to the tensor's size."""

    row: Row
    values: tuple[dict[str, float], dict[str, float]]
    moved: dict[str, float]
    dtypes: tuple[str, str]
    equal = False
    difference = None

    def to_dict(self) -> dict:
        return {"equal": False, "relative_l2": None, "why": self.row.why or AGREES, "dtype_reference": self.dtypes[0],
                "dtype_candidate": self.dtypes[1], "figures": {name: [side[name] for side in self.values] for name in self.moved},
                "moved": _short(max(self.moved.values(), default=None))}  # fmt: skip

    def __str__(self) -> str:
        return self.row.why or f"{AGREES} ({', '.join(self.moved)})"


def compared(reference: Trace, candidate: Trace, floors: Floor | None = None) -> dict[Place, Figures]:
    """All places that two traces share and of which one has only figures, and the other one of the same figures."""
    floors = floors or stored_floor(reference)
    found = {place: held_against(place, reference, candidate, floors) for place in places_of(reference, candidate)}
    return {place: figures for place, figures in found.items() if figures.moved or figures.row.why}


def held_against(place: Place, reference: Trace, candidate: Trace, floors: Floor) -> Figures:
    """One place, by whatever is held of it on either side."""
    mine, theirs = _held(reference, place), _held(candidate, place)
    floor = max(floors.of_run(place, finer(mine.tensor, theirs.tensor)), ROUNDING / STANDS_OUT)
    shapes = [_shape(side) for side in (mine, theirs)]
    count = next((math.prod(shape) for shape in shapes if shape is not None), None)
    values = tuple(_figures(side, count) for side in (mine, theirs))
    dtypes = tuple((side.dtype or "unknown") if isinstance(side, Figured) else dtype_name(side.tensor) for side in (mine, theirs))
    moved, why = apart(*values), ""
    if None not in shapes and math.prod(shapes[0]) != math.prod(shapes[1]):
        why = f"shapes differ: {shapes[0]} against {shapes[1]}"
    elif max(moved.values(), default=0.0) > STANDS_OUT * floor:
        name = max(moved, key=moved.get)
        size = "" if math.isinf(moved[name]) else f" ({_short(moved[name]):g} of the tensor's size)"
        why = f"only figures are known: {name} is {values[0][name]:.6g} against {values[1][name]:.6g}{size}"
    return Figures(Row(place, None, floor, why=why, estimated=True, figures=True), values, moved, dtypes)


def _held(trace: Trace, place: Place):
    return trace.events.get(place) or trace.sketches.get(place) or trace.figures[place]


def _shape(held) -> tuple[int, ...] | None:
    return held.shape if isinstance(held, Figured) else tuple(held.tensor.shape)


def _figures(held, count: int | None) -> dict[str, float]:
    if isinstance(held, Figured):
        return completed(held.figures, count)
    return figures_of_sketch(held.sketch) if isinstance(held, Sketched) else figures_of(held.tensor)


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.2g}")
