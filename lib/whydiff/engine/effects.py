"""How much of the image is it? Each cause repaired alone, then all of them, and the picture made again."""

from __future__ import annotations

import contextlib

import torch

from whydiff.engine.lab import OTHER, Lab
from whydiff.engine.repaired import repaired
from whydiff.engine.walk import Named
from whydiff.errors import Trouble
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.measure.pictures import round_to_8_bit
from whydiff.places import Place, walk_key


def image_effects(lab: Lab, named: list[Named], effects: dict[int, float | None]) -> None:
    """Fill `effects`: for each finding, the share of the image's difference that goes when only its cause is repaired.

    What each of those runs shows is kept with its finding, and what the run with all causes repaired shows with the lab.
    """
    other = lab.traces[OTHER[lab.patient]]
    mine = lab.traces[lab.patient]
    place = last_common(mine, other)
    if place is None:
        return
    base_changes: dict = {}
    if mine[place].shape != other[place].shape:
        for entry in named:  # what restores the shape is repaired on both sides of the fraction
            if entry.changes and lab.run(lab.patient, changes=entry.changes)[place].shape == other[place].shape:
                base_changes |= entry.changes
                effects[id(entry)] = None
    base = lab.run(lab.patient, changes=base_changes)[place] if base_changes else mine[place]
    eight_bit = "8 bit" in {trace.events[place].component for trace in (mine, other)}
    whole = _distance(other[place], base, eight_bit)
    for number, entry in enumerate(named, 1):
        if id(entry) in effects or not whole:
            continue
        lab.said(f"how much of the image is it? cause {number} of {len(named)}")
        if place.probe in entry.probes:  # the repair is the output itself
            effects[id(entry)] = min((e.explained for e in entry.explanations), default=1.0)
            continue
        if entry.finding.place in lab.unrepaired:
            continue
        dtype = next((e.dtype for e in entry.explanations if e.dtype is not None), None)
        if not (dtype or entry.probes or entry.changes or entry.arguments):
            continue  # nothing that could be put over repairs it
        trace = lab.in_dtype(dtype, base_changes) if dtype else lab.repaired(entry.probes, base_changes | entry.changes, entry.arguments)
        if trace is None:
            continue
        entry.repaired = repaired(lab, trace)
        if place in trace and trace[place].shape == other[place].shape:
            effects[id(entry)] = 1.0 - _distance(other[place], trace[place], eight_bit) / whole
            if entry.probes and nothing_moved(lab, trace, entry.finding.place, base_changes):
                lab.notes.append(f"The tap at {entry.finding.probe} does not repair: nothing after it moved when its value was "
                                 "replaced, so nothing is concluded from that replacement. Use the value that tap returns.")  # fmt: skip
                effects[id(entry)] = entry.repaired = None
    _together(lab, named, base_changes)


def _together(lab: Lab, named: list[Named], base_changes: dict) -> None:
    """All named causes repaired in one run: do they account for the whole difference?"""
    causes = [entry for entry in named if entry.explanations]
    undone = [entry for entry in causes if entry.repaired is not None or set(entry.changes) <= set(base_changes)]
    if len(undone) == 1 == len(causes):
        lab.repaired_all = undone[0].repaired
    elif causes and undone == causes and not any(e.dtype for entry in causes for e in entry.explanations):
        lab.said("is that all of it? all causes repaired at once")
        probes, arguments = (set().union(*(getattr(entry, name) for entry in causes)) for name in ("probes", "arguments"))
        changes = {key: value for entry in causes for key, value in entry.changes.items()}
        with contextlib.suppress(Trouble):  # repairs that work one by one may not go together
            lab.repaired_all = repaired(lab, lab.repaired(probes, base_changes | changes, arguments))


def nothing_moved(lab: Lab, trace: Trace, place: Place, changes: dict) -> bool:
    """True when no place after `place` changed although its value was replaced by a different one."""
    if place not in trace.moved:
        return False
    before = lab.traces[lab.patient] if not changes else lab.run(lab.patient, changes=changes)
    later = [p for p in trace if walk_key(p) > walk_key(place) and p in before and p.probe != place.probe]
    return bool(later) and all(torch.equal(trace[p], before[p]) for p in later if trace[p].shape == before[p].shape)


def last_common(one: Trace, other: Trace) -> Place | None:
    """`image`, or the last place that both have."""
    common = sorted((p for p in one if p in other and not p.probe.startswith("modules")), key=walk_key)
    return common[-1] if common else None


def _distance(a: torch.Tensor, b: torch.Tensor, eight_bit: bool = False) -> float:
    if a.shape != b.shape:
        return float("nan")
    return relative_l2(round_to_8_bit(a), round_to_8_bit(b)) if eight_bit else relative_l2(a, b)
