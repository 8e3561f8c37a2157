"""What agreement is worth: is anything different at all between the sides, and does a side agree with itself?"""

from __future__ import annotations

import torch

from whydiff.engine.lab import Lab
from whydiff.evidence.floor import STANDS_OUT, widen
from whydiff.evidence.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import walk_key
from whydiff.verdict import Verdict


def check_vacuous(verdict: Verdict, lab: Lab) -> None:
    """Turn agreement into `vacuous` when nothing that could make a difference differs between the sides."""
    why = vacuous_because(lab)
    if why:
        verdict.verdict = "vacuous"
        verdict.first_divergence = None
        verdict.notes.append(why)


def vacuous_because(lab: Lab) -> str:
    """Why agreement would prove nothing, or an empty string."""
    reference, candidate = lab.sides["reference"], lab.sides["candidate"]
    if reference is not None and candidate is not None:
        if reference.subject is candidate.subject and reference.call == candidate.call:
            return "both sides are one and the same object"
        same = (lab.twins_of_each_other and reference.build == candidate.build and reference.call == candidate.call
                and lab.case.reference.settings == lab.case.candidate.settings)  # fmt: skip
        return "both sides run the same code with the same weights, build, call and settings" if same else ""
    case = lab.case
    for kind in ("trace", "image"):
        mine, theirs = getattr(case.reference, kind), getattr(case.candidate, kind)
        if mine and theirs and not case.reference.live and not case.candidate.live:
            if case.resolve(mine) == case.resolve(theirs):
                return f"both sides are the same {kind}"
    a, b = lab.traces["reference"], lab.traces["candidate"]
    if a is None and b is None:
        return "only settings were compared, and those that both sides state are equal"
    if a is not None and b is not None and a.producer.get("code") and a.producer.get("code") == b.producer.get("code"):
        if a.producer.get("build") == b.producer.get("build") and a.settings == b.settings and _environment(a) == _environment(b):
            return "both sides were recorded from the same code with the same build, settings and environment"
    return ""


def _environment(trace: Trace):
    return {k: trace.environment.get(k) for k in ("versions", "precision", "threads", "attention")}


def leaked(lab: Lab, repeats: dict[str, Trace]) -> list[dict]:
    """Places where a side's second A of A-B-A departs from its first by more than noise: state leaks from run to run.

    A side that also differs between two runs in a row is not deterministic; then its floor grows and nothing leaked.
    """
    found = []
    _draws_have_no_floor(lab)
    lab.notes += drawn_globally(lab)
    for role, again in repeats.items():
        first = lab.traces[role]
        places = sorted((p for p in again if p in first and _apart(lab, first, again, p)), key=walk_key)
        if not places:
            continue
        third = lab.run(role)
        if any(_apart(lab, again, third, p) for p in places if p in third):
            lab.notes.append(f"{role} is not deterministic: two runs in a row differ at {places[0]}")
            for one, other in ((again, third), (first, again)):
                widen(lab.floor.inherited, one, other)
                widen(lab.floor.added, one, other)
            _draws_have_no_floor(lab)
            continue
        place = places[0]
        entry = place.to_dict() | {"stage": "state_leakage", "run": 2, "difference": relative_l2(first[place], again[place]),
                                   "noise_floor": lab.floor.of_run(place, first[place]),
                                   "why": f"{role}: the same request gives another result after another request"}  # fmt: skip
        found.append(entry)
    return found


def drawn_globally(lab: Lab) -> list[str]:
    """One line for each side that drew from a global generator: its noise is not what a seed in the call decides."""
    words = {role: " and ".join(sorted(side.global_draws)) for role, side in lab.sides.items() if side is not None}
    return [f"{role} draws from the global generator of {which}, seeded with 0 before each run; the call's seed does not decide that"
            for role, which in words.items() if which]  # fmt: skip


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
