"""Repairs that a value in place cannot make: loops that are not in step, and embeddings of another length.

With both, what comes after them can be compared on equal inputs, so that a second cause is not hidden behind the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.engine.lab import Lab
from whydiff.engine.missing import PREDICTIONS
from whydiff.errors import Trouble
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, family

# What the first step that both loops make inherits from those that only one made: its latents, and a solver's history.
INHERITED = ("latent_model_input", "latents", "step_noise")


def align(lab: Lab, explanations: list[Explanation]) -> bool:
    """Leave the steps out of all runs of a side that the other side's loop has not. True where that was done."""
    done = False
    for explanation in explanations:
        for role, steps in explanation.unmatched.items():
            side, left = lab.sides[role], frozenset(steps)
            if side is not None and side.unmatched:
                continue
            if side is not None:
                side.unmatched = left
            _renamed(lab, role, lambda place, left=left: counted(place, left))
            done = True
    return done


def pair_branches(lab: Lab, explanations: list[Explanation]) -> None:
    """One side guides and the other has one branch alone, without a name: from now on that is the guided side's conditional one."""
    for role in {explanation.guided_alone for explanation in explanations} - {None}:
        if lab.sides[role] is not None:
            lab.sides[role].guided_alone = True
        _renamed(lab, role, lambda place: dataclasses.replace(place, branch=None) if place.branch == "cond" else place)


def _renamed(lab: Lab, role: str, name: Callable[[Place], Place | None]) -> None:
    """Everything that is known of a side, under other places; None leaves it out."""
    for traces in (lab.traces, lab.repeats, lab.between):
        if traces.get(role) is not None:
            traces[role] = renamed(traces[role], name)
    if lab.floor_role == role:
        for floors in (lab.floor.inherited, lab.floor.added):
            kept = {moved: floor for place, floor in floors.items() if (moved := name(place)) is not None}
            floors.clear()
            floors.update(kept)
    lab.last_forced = None


def counted(place: Place, left: frozenset[int]) -> Place | None:
    """A place in the numbers that steps have when those in `left` do not count; None for a place in one of those."""
    if place.step is None:
        return place
    return None if place.step in left else dataclasses.replace(place, step=place.step - sum(step < place.step for step in left))


def renamed(trace: Trace, name: Callable[[Place], Place | None]) -> Trace:
    """The trace with what `name` makes of its places; without those of which it makes None."""
    made = Trace(producer=trace.producer, settings=trace.settings, environment=trace.environment, floor=trace.floor, complete=trace.complete)
    made.calls, made.encoders = trace.calls, trace.encoders
    for place, event in trace.events.items():
        if (moved := name(place)) is not None:
            made.add(dataclasses.replace(event, place=moved))
    made.absent = {moved for place in trace.absent if (moved := name(place)) is not None}
    made.moved = {moved for place in trace.moved if (moved := name(place)) is not None}
    return made


def inherited(rows) -> set[str]:
    """Probes that stand out at the first step of loops that begin with another one."""
    return {row.place.probe for row in rows if row.stands_out and row.place.step == 0 and row.place.probe in INHERITED}


def fed_alike(finding: Finding, lab: Lab, forced: Trace) -> bool:
    """Is a network's prediction made from inputs that are all the other side's? Then nothing that was left unrepaired reaches it."""
    other, here = lab.traces["reference" if lab.patient == "candidate" else "candidate"], finding.place
    inputs = [p for p in forced if (p.step, p.branch) == (here.step, here.branch) and family(p.probe) in ("latent_model_input", "model_input")]
    return finding.probe in PREDICTIONS and bool(inputs) and all(
        p in forced.moved or (p in other and forced[p].shape == other[p].shape and torch.equal(forced[p], other[p])) for p in inputs)  # fmt: skip


def resize(lab: Lab, finding: Finding, explanations: list[Explanation], changes: dict) -> None:
    """Where a cause in prompt encoding leaves the sides with rows of other lengths, put the other side's in all the same.

    Networks take embeddings of any length. One that does not (or lays them out by a length of its own) raises, and is left alone.
    """
    patient = lab.sides[lab.patient]
    if finding.place.stage != "prompt_encoding" or any(e.changes for e in explanations):
        return
    named = {finding.probe}.union(*(e.covers for e in explanations))
    other = lab.traces["reference" if lab.patient == "candidate" else "candidate"]
    before = lab.forced(changes)
    apart = {place for place in before if place in other and place.probe in named and before[place].shape != other[place].shape
             and (family(place.probe).endswith("embeds") or family(place.probe) == "model_input")}  # fmt: skip
    if not apart or any(before[p].dim() != other[p].dim() for p in apart):
        return
    earlier = patient.resized
    patient.resized, lab.last_forced = earlier | {place.probe for place in apart}, None
    try:
        after = lab.forced(changes)
    except Trouble as trouble:
        patient.resized, lab.last_forced = earlier, None
        lab.notes.append(f"embeddings of the other side's length could not be put in: {trouble}")
        return
    if all(place in after.moved or (place in after and after[place].shape == other[place].shape) for place in apart):
        lab.unrepaired[:] = [place for place in lab.unrepaired if place.stage != "prompt_encoding"]
