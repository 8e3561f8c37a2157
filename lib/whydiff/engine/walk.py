"""The walk: compare place by place in pipeline order, repair what is explained, and go on to the next difference.

All stages are looked at in one run: every probe of the candidate is recorded and then given the reference's value, so
what a place shows is what its stage *adds* on the reference's inputs. Nothing inherited can be blamed.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from whydiff.causes import precision
from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.registry import explain
from whydiff.engine.lab import Lab
from whydiff.engine.modules import module_walk
from whydiff.evidence.floor import STANDS_OUT, image_floor
from whydiff.evidence.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place, family, walk_key

# Probes that a network puts out, so that the cause of a difference may lie in one of its modules.
LOOKED_INTO = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds", "noise_pred_text",
               "noise_pred_uncond", "decoded")  # fmt: skip


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

    @property
    def stands_out(self) -> bool:
        return self.why != "" or (self.difference is not None and self.difference > STANDS_OUT * self.floor)


@dataclasses.dataclass
class Named:
    """A finding with the explanations an experiment gave for it (none: unexplained)."""

    finding: Finding
    explanations: list[Explanation]
    changes: dict  # call arguments that repair it
    probes: set[str] = dataclasses.field(default_factory=set)  # or probes at which the other side's values do


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
        return Row(place, None, 0.0, why=f"shapes differ: {tuple(mine.shape)} against {tuple(theirs.shape)}")
    theirs = pair[1]  # in the reference's layout; `mine` may be what a live reference makes of a recorded candidate
    floor = floor_of(place, mine)
    if place.probe == "image":
        mine, theirs, floor = _images(lab, place, mine, theirs, floor)
    difference = relative_l2(mine, theirs)
    equal = torch.equal(mine, theirs) or (difference == 0.0)
    if not math.isfinite(difference):
        finite = bool(mine.isfinite().all()), bool(theirs.isfinite().all())
        if finite == (False, False) and torch.equal(mine.nan_to_num(), theirs.nan_to_num()):
            return Row(place, 0.0, floor, equal=True)
        why = {(True, False): "candidate's values are not finite", (False, True): "reference's values are not finite",
               (False, False): "both sides have values that are not finite"}.get(finite, "the reference is zero")  # fmt: skip
        return Row(place, None, floor, why=why)
    return Row(place, difference, floor, equal=equal)


def _images(lab: Lab, place: Place, mine, theirs, floor):
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


def findings(lab: Lab, rows: list[Row], forced: Trace) -> list[Finding]:
    """The rows that stand out, one finding for each probe, in walking order."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row.stands_out and not row.place.probe.startswith("modules"):
            grouped.setdefault(row.place.probe, []).append(row)
    found = []
    for probe, group in grouped.items():
        reference, candidate = {}, {}
        for row in group:
            own = forced[row.place]
            if lab.patient == "candidate":
                pair = lab.pair(row.place, own)
                reference[row.place] = lab.traces["reference"][row.place]
            else:
                pair = (own, lab.traces["candidate"][row.place])
                pair = pair if pair[0].shape == pair[1].shape else None
                reference[row.place] = own
            if pair is not None and probe == "image":
                pair = _images(lab, row.place, *pair, row.floor)[:2]
                reference[row.place] = pair[0]
            if pair is not None:
                candidate[row.place] = pair[1]
        first = group[0]
        found.append(Finding(probe, [row.place for row in group], reference, candidate, first.difference, first.floor, first.why))
    return sorted(found, key=lambda f: walk_key(f.place))


def walk(lab: Lab, sizes: list[Explanation]) -> tuple[list[Named], list[Row]]:
    """Find, explain and repair until nothing stands out. `sizes` are explanations of other output sizes, repaired first.

    Returns what was found, and what each stage adds (the rows of the first run on equal inputs).
    """
    named = [size_named(explanation) for explanation in sizes]
    changes: dict = {}
    for entry in named:
        changes |= entry.changes
    if changes:
        lab.find_layouts(lab.run("candidate", changes=changes))
    settled: set[str] = set()
    first_rows: list[Row] | None = None
    while True:
        lab.said("running the candidate on the reference's inputs, stage by stage")
        forced = lab.forced(changes)
        rows = added_rows(lab, forced)
        first_rows = first_rows or rows
        waiting = [f for f in findings(lab, rows, forced) if f.probe not in settled]
        if not waiting:
            return named, first_rows
        finding = waiting[0]
        parent = inherits(finding, lab, settled)
        if parent or precision.accepted(finding, lab):
            settled.add(finding.probe)
            for entry in named:
                if entry.finding.probe == parent and entry.probes:
                    entry.probes.add(finding.probe)
            continue
        lab.said(f"looking for the cause at {finding.probe}")
        explanations = explain(finding, lab)
        if not explanations and any(walk_key(place) < walk_key(finding.place) for place in lab.unrepaired):
            lab.notes.append(f"{finding.probe} differs, too, but {lab.unrepaired[0].probe} could not be repaired in the candidate's dtype, so "
                             "that difference may be inherited from it.")  # fmt: skip
            settled.add(finding.probe)
            continue
        if not explanations:
            look_inside(finding, lab, changes)
        elif finding.place not in forced.moved and all(e.dtype is None and not e.changes for e in explanations):
            lab.unrepaired.append(finding.place)
        new = {key: value for explanation in explanations for key, value in explanation.changes.items()}
        probes = set() if new else {finding.probe}.union(*(explanation.covers for explanation in explanations))
        named.append(Named(finding, explanations, new, probes))
        changes |= new
        settled |= probes
        if new and any(f.probe == finding.probe and f.place == finding.place for f in _again(lab, changes)):
            settled.add(finding.probe)  # the call was changed and something is still wrong there: do not ask again


def look_inside(finding: Finding, lab: Lab, changes: dict) -> None:
    """Find the module that makes an unexplained difference of a network, an encoder or a decoder."""
    seen = lab.traces["reference"].at("noise_pred_text")
    if (family(finding.probe) not in LOOKED_INTO and (finding.probe != "noise_pred" or seen)) or finding.place not in finding.candidate:
        return
    stage = "model_forward" if finding.probe == "noise_pred" else finding.place.stage
    inside = module_walk(lab, finding.place.step, changes, stage)
    if inside is not None and inside.culprit is not None:
        finding.inside = {"module": inside.culprit, "module_reference": inside.culprit_reference, "difference": inside.first.difference,
                          "noise_floor": inside.floors[inside.first.reference]}  # fmt: skip


def size_named(explanation: Explanation) -> Named:
    """Sizes differ: found in the settings, or at the first tensor that has a size."""
    place = Place(explanation.probe or "initial_noise")
    return Named(Finding(place.probe, [place], {}, {}, None, 0.0, "sizes differ"), [explanation], dict(explanation.changes))


def _again(lab: Lab, changes: dict) -> list[Finding]:
    forced = lab.forced(changes)
    return findings(lab, added_rows(lab, forced), forced)


def inherits(finding: Finding, lab: Lab, settled: set[str]) -> str:
    """"sigmas" for timesteps that follow from sigmas found to differ, by the map both sides share: t = 1000 · sigma."""
    if family(finding.probe) != "timesteps" or "sigmas" not in settled or finding.place not in finding.candidate:
        return ""
    sigmas = {role: lab.own_value(role, Place("sigmas")) for role in ("reference", "candidate")}
    if any(value is None for value in sigmas.values()):
        return ""
    mine, theirs = finding.reference[finding.place].double(), finding.candidate[finding.place].double()
    a, b = sigmas["reference"].double()[: mine.numel()], sigmas["candidate"].double()[: theirs.numel()]
    if a.numel() != mine.numel() or b.numel() != theirs.numel() or not a.norm():
        return ""
    scale = (a @ mine / (a @ a)).item()
    # Integer timesteps may be cut: one unit of rounding on top of the reference's own departure from the map.
    slack = (mine - scale * a).abs().max().item() + (1.0 if not finding.candidate[finding.place].is_floating_point() else scale * 1e-6)
    return "sigmas" if ((theirs - scale * b).abs() <= slack).all() else ""
