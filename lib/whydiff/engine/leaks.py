"""Does a side agree with itself? Runs A, B and A again of each live side: what the second A shows and the first did not."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.leaks import kept as causes
from whydiff.causes.registry import attempt
from whydiff.engine.agreement import drawn_globally
from whydiff.engine.lab import Lab
from whydiff.engine.missing import evaluations
from whydiff.engine.requests import alike_asked, other_conditions, other_request
from whydiff.evidence.floor import STANDS_OUT, widen
from whydiff.evidence.surroundings.checksums import changed
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place, walk_key

# Probes that hold what a request asks for, so that another request changes them.
HELD = ("input_ids", "input_ids_2", "input_ids_3", "prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds",
        "negative_pooled_prompt_embeds", "image_embeds", "init_image", "mask", "image_latents", "model_input")  # fmt: skip

# A side that differs from its own last run by this many floors, and by this much of its values, is no victim of rounding.
BY_CHANCE, LEAST_CHANCE = 1000.0, 1e-3


@dataclasses.dataclass
class Leaked:
    """A place where a side's runs of one request part, as the verdict has it, and the causes an experiment showed."""

    finding: Finding
    entry: dict
    explanations: list[Explanation]


def leaked(lab: Lab) -> list[Leaked]:
    """Where a side departs from itself, or from the other side in the request between, by more than noise.

    A side that also differs between two runs in a row is not deterministic; then its floor grows and nothing leaked.
    """
    found = []
    _draws_have_no_floor(lab)
    lab.notes += drawn_globally(lab)
    for role, again in lab.repeats.items():
        first = lab.traces[role]
        places = sorted((p for p in again if p in first and _apart(lab, first, again, p)), key=walk_key)
        counts = sum(evaluations(first).values()), sum(evaluations(again).values())
        if not places and counts[0] == counts[1]:
            continue
        third = lab.run(role)
        moving = any(_apart(lab, again, third, p) for p in places if p in third)
        if moving and not causes.simple_change(lab, places[0], again, third) and not _settles(lab, role, third, places) \
                and not _keeps_changing(lab, role):  # fmt: skip
            known = _leak(lab, role, places[0], f"{role}: two runs of one request in a row give two results", counts, third, causes.certain)
            if known.explanations or _beyond_rounding(lab, again, third, places):
                found.append(known)
            if not known.explanations:
                lab.notes.append(f"{role} is not deterministic: two runs in a row differ at {places[0]}")
            for one, other in ((again, third), (first, again)):
                widen(lab.floor.inherited, one, other)
                widen(lab.floor.added, one, other)
            _draws_have_no_floor(lab)
            continue
        place = Place("timesteps") if counts[0] != counts[1] or not places else places[0]
        why = f"{role}: the same request gives another result after another request"
        found.append(_leak(lab, role, place, why, counts, third))
    return found


def stale(lab: Lab) -> list[Leaked]:
    """Where one side's next request still holds values of its first request, and the other side's does not.

    Looked for where the first requests agree: with another prompt and seed, then with another negative prompt and picture.
    Only where the same is changed on both sides: embeddings or latents that a caller hands over rightly stay as they are.
    """
    if None in lab.sides.values() or not lab.between:
        return []
    first = lab.between if alike_asked(lab.sides, {role: other_request(side) for role, side in lab.sides.items()}) else {}
    changes = {role: other_conditions(side) for role, side in lab.sides.items()}
    second = alike_asked(lab.sides, changes)
    if second:
        lab.said("running both sides with other conditions after the first request")
    for between in (first, {role: lab.run(role, changes=changes[role]) for role in lab.sides} if second else {}):
        for place in sorted((p for p in lab.traces["reference"] if p.probe.split("/")[0] in HELD), key=walk_key) if between else ():
            kept = {role: _kept(lab.traces[role], run, place) for role, run in between.items()}
            if set(kept.values()) == {True, False}:
                role = next(role for role, same in kept.items() if same)
                return [_still(lab, role, place, between)]
    return []


def _kept(first: Trace, run: Trace, place: Place) -> bool | None:
    """Does a later request hold at a place, bit for bit, what the first one held? None where it cannot be told."""
    if place not in first or place not in run:
        return None
    return first[place].shape == run[place].shape and torch.equal(first[place], run[place])


def _still(lab: Lab, role: str, place: Place, between) -> Leaked:
    other = "reference" if role == "candidate" else "candidate"
    theirs = between[other][place]
    difference = relative_l2(theirs, between[role][place]) if theirs.shape == between[role][place].shape else None
    why = f"{role}: the next request, with other conditions, still has the first request's {place.probe}"
    finding = Finding(place.probe, [place], {}, {}, difference, lab.floor.of_run(place, theirs), why)
    entry = place.to_dict() | {"stage": "state_leakage", "run": 1, "difference": difference, "noise_floor": finding.floor, "why": why}
    return Leaked(finding, entry, [causes.still_held(role, place)])


def _leak(lab: Lab, role: str, place: Place, why: str, counts: tuple[int, int], third: Trace, explain=causes.explain) -> Leaked:
    first, again = lab.traces[role], lab.repeats[role]
    side = lab.sides[role]
    comparable = place in first and place in again and first[place].shape == again[place].shape
    difference = relative_l2(first[place], again[place]) if comparable else None
    floor = lab.floor.of_run(place, first[place]) if place in first else 0.0
    leak = causes.Leak(role, place, first, lab.between[role], again, third,
                       changed(lab.held_before[role], side.checksums()), counts)  # fmt: skip
    finding = Finding(place.probe, [place], {}, {}, difference, floor, why)
    explanations = attempt(lambda _finding, lab: explain(leak, lab), finding, lab)
    entry = place.to_dict() | {"stage": "state_leakage", "run": 2, "difference": difference, "noise_floor": floor, "why": why}
    return Leaked(finding, entry, explanations)


def _beyond_rounding(lab: Lab, one: Trace, other: Trace, places: list[Place]) -> bool:
    """Do two runs in a row differ so much more than rounding, drawn anew everywhere, that no kernel's order of sums can be why?

    Noise that is drawn by chance is told where it is drawn, and not here.
    """
    place = places[0]
    if place.probe in ("initial_noise", "step_noise") or place not in one or place not in other or one[place].shape != other[place].shape:
        return False
    difference = relative_l2(one[place], other[place])
    return difference > LEAST_CHANCE and difference > BY_CHANCE * lab.floor.of_run(place, one[place])


def _settles(lab: Lab, role: str, third: Trace, places: list[Place]) -> bool:
    """Is a run after the very same request always the same? Then what differed is what the request before left behind, and
    nothing is random."""
    fourth = lab.run(role)
    return all(p in fourth and p in third and not _apart(lab, third, fourth, p) for p in places)


def _keeps_changing(lab: Lab, role: str) -> bool:
    """Do weights, buffers or arguments change with every run? Then runs differ in a row, and still nothing is random."""
    side = lab.sides[role]
    before = side.checksums()
    lab.run(role)
    return before != side.checksums() and before != lab.held_before[role]


def _draws_have_no_floor(lab: Lab) -> None:
    """Noise that is drawn anew in each run has no floor: what should follow from a seed either is the same or differs."""
    for floors in (lab.floor.inherited, lab.floor.added):
        for place in floors:
            if place.probe in ("initial_noise", "step_noise"):
                floors[place] = 0.0


def _apart(lab: Lab, one: Trace, other: Trace, place) -> bool:
    a, b = one[place], other[place]
    if a.shape != b.shape:
        return True
    if torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.isfinite(), b.isfinite()) and torch.equal(a.nan_to_num(), b.nan_to_num())):
        return False
    return not relative_l2(a, b) <= STANDS_OUT * lab.floor.of_run(place, a)
