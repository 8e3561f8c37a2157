"""What agreement is worth: is anything different at all between the sides?"""

from __future__ import annotations

import torch

from whydiff.engine.lab import Lab
from whydiff.evidence.traces.trace import Trace
from whydiff.verdict import Verdict


def check_vacuous(verdict: Verdict, lab: Lab, unequal: bool = False) -> None:
    """Turn agreement into `vacuous` when nothing that could make a difference differs between the sides.

    `unequal`: some tensor is not bit for bit the same. Then something does differ, seen or not, unless a side differs from
    itself when it is run again.
    """
    why = vacuous_because(lab)
    if why and (not unequal or _restless(lab)):
        verdict.verdict = "vacuous"
        verdict.first_divergence = None
        verdict.notes.append(why)


def _restless(lab: Lab) -> bool:
    """Does a side put out something else when it is run again?"""
    for role, again in lab.repeats.items():
        first = lab.traces[role]
        if any(p in first and not torch.equal(first[p], again[p]) for p in again):
            return True
    return False


def vacuous_because(lab: Lab) -> str:
    """Why agreement would prove nothing, or an empty string."""
    reference, candidate = lab.sides["reference"], lab.sides["candidate"]
    if reference is not None and candidate is not None:
        if not lab.apart and reference.subject is candidate.subject and reference.call == candidate.call:
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
    return {k: trace.environment.get(k) for k in ("versions", "precision", "threads", "attention", "ranks")}


def _follows_the_seed(lab: Lab, role: str) -> bool:
    """Was the noise another one when the call's seed was? A side may seed the global generator with it."""
    before, asked_otherwise = lab.traces[role], lab.between.get(role)
    places = [p for p in before if p.probe in ("initial_noise", "initial_latents") and asked_otherwise is not None and p in asked_otherwise]
    return bool(places) and not any(torch.equal(before[p], asked_otherwise[p]) for p in places)


def drawn_globally(lab: Lab) -> list[str]:
    """One line for each side that drew from a global generator: its noise is not what a seed in the call decides."""
    words = {role: " and ".join(sorted(side.global_draws)) for role, side in lab.sides.items()
             if side is not None and not _follows_the_seed(lab, role)}  # fmt: skip
    return [f"{role} draws from the global generator of {which}, seeded with 0 before each run; the call's seed does not decide that"
            for role, which in words.items() if which]  # fmt: skip
