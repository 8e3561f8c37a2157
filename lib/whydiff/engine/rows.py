"""Places compared: whole runs of both sides, and what each stage adds on equal inputs, each row beside its floor."""

from __future__ import annotations

import dataclasses
import math

import torch

from whydiff.engine.lab import Lab
from whydiff.evidence.floor import STANDS_OUT, image_floor, own_ulp
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.measure.rearranged import part_of
from whydiff.places import Place, walk_key


@dataclasses.dataclass(frozen=True)
class Row:
    """One place compared: the difference in whole runs and what the stage adds, each beside its floor. None: not comparable."""

    place: Place
    difference: float | None
    floor: float
    added: float | None = None
    added_floor: float | None = None
    equal: bool = False
    why: str = ""
    estimated: bool = False  # from sketches, or known by figures alone
    figures: bool = False  # known by figures alone

    @property
    def stands_out(self) -> bool:
        return self.why != "" or (self.difference is not None and self.difference > STANDS_OUT * self.floor)

    @property
    def floors(self) -> float:
        """The difference in units of its noise floor; infinity where shapes differ or values are not finite."""
        if self.difference is None:
            return math.inf
        return self.difference / self.floor if self.floor else (0.0 if self.difference == 0 else math.inf)


def compare_runs(lab: Lab, candidate: Trace | None = None) -> list[Row]:
    """Every place that both sides recorded, in walking order."""
    reference, candidate = lab.traces["reference"], candidate or lab.traces["candidate"]
    rows = []
    for place in sorted((p for p in candidate if p in reference), key=walk_key):
        rows.append(_row(lab, place, reference[place], candidate[place], lab.floor.of_run))
    return rows


def _row(lab: Lab, place: Place, mine: torch.Tensor, theirs: torch.Tensor, floor_of) -> Row:
    pair = lab.pair(place, theirs)
    if pair is None or pair[1].shape != mine.shape:
        return Row(place, None, 0.0, why=f"shapes differ: {tuple(mine.shape)} against {tuple(theirs.shape)}{part_of(mine, theirs)}")
    theirs = pair[1]  # in the reference's layout; `mine` may be what a live reference makes of a recorded candidate
    floor = floor_of(place, finer(mine, theirs))
    if place.probe == "image":
        mine, theirs, floor = as_images(lab, place, mine, theirs, floor)
    difference = relative_l2(mine, theirs)
    if not math.isfinite(difference):
        finite = bool(mine.isfinite().all()), bool(theirs.isfinite().all())
        if finite == (False, False) and torch.equal(mine.nan_to_num(), theirs.nan_to_num()):
            return Row(place, 0.0, floor, equal=True)
        why = {(True, False): "candidate's values are not finite", (False, True): "reference's values are not finite",
               (False, False): "both sides have values that are not finite"}.get(finite, "the reference is zero")  # fmt: skip
        return Row(place, None, floor, why=why)
    return Row(place, difference, floor, equal=difference == 0.0)


def finer(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The tensor of the type with the smaller rounding: a coarse side does not excuse itself by being coarse.

    A whole number beside a floating one has none of its own: it is held to be known as well as a float32.
    """
    floating = [t for t in (mine, theirs) if t.is_floating_point()]
    if len(floating) == 1:
        floating.append(floating[0].float())
    return min(floating, key=own_ulp, default=mine)


def as_images(lab: Lab, place: Place, mine, theirs, floor):
    """Images in one precision: if one side is 8 bit, the other is rounded to 8 bit, and rounding has a floor of its own."""
    bits = {lab.traces[role].events[place].component for role in ("reference", "candidate")}
    if "8 bit" not in bits:
        return mine, theirs, floor
    from whydiff.measure.pictures import round_to_8_bit

    decoded = max((lab.floor.of_run(p, mine) for p in lab.traces["reference"].at("decoded")), default=floor)
    mine, theirs = round_to_8_bit(mine), round_to_8_bit(theirs)
    return mine, theirs, max(floor, image_floor(mine, STANDS_OUT * decoded) / STANDS_OUT)


def added_rows(lab: Lab, forced: Trace) -> list[Row]:
    """What each stage adds: the patient's own values on the other side's inputs, beside the floor of a stage."""
    other = lab.traces["reference"] if lab.patient == "candidate" else lab.traces["candidate"]
    rows = []
    for place in sorted((p for p in forced if p in other), key=walk_key):
        mine, theirs = (other[place], forced[place]) if lab.patient == "candidate" else (forced[place], other[place])
        rows.append(_row(lab, place, mine, theirs, lab.floor.of_stage))
    return rows
