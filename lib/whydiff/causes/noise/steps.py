"""Noise drawn inside the scheduler's steps: which generator, and how far on in its stream?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.noise.draws import given_seeds, seeds_to_try
from whydiff.formulas.noise_stream import ItemRecipes, find_source
from whydiff.places import Place

GLOBAL = "global generator"  # what the recorder notes at a draw without a generator


def explain(finding: Finding, lab) -> list[Explanation]:
    """`per-step-noise-global-rng`, a stream that other draws have moved on, or noise of a batch that is no item's own."""
    if finding.place not in finding.candidate:
        return []
    shifted = _shifted(finding, lab)
    noises = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    seeds, given = seeds_to_try(lab), len(given_seeds(lab))
    recipes = {role: find_source(noise, seeds, given) for role, noise in noises.items()}
    sources = {role: _source(finding.place, lab, role) for role in noises}
    words = {role: "a draw that no recipe reproduces" if r is None else r.words for role, r in recipes.items()}
    proof = f"drew the noise of step {finding.place.step} again: the candidate's is {words['candidate']}, the reference's {words['reference']}"
    from_global = [role for role in noises if sources[role] == GLOBAL]
    if len(from_global) == 1 and recipes[from_global[0]] is not None:
        return [_global(from_global[0], proof)]
    if None in recipes.values():
        return shifted
    mine, theirs = recipes["reference"], recipes["candidate"]
    if isinstance(mine, ItemRecipes) or isinstance(theirs, ItemRecipes) or mine.batch != theirs.batch:
        if noises["reference"].shape[0] == 1:
            return []
        per_item = "candidate" if isinstance(theirs, ItemRecipes) or theirs.batch != "whole" else "reference"
        return [Explanation(
            id="brownian-noise-batch-dependent", departs="candidate" if per_item == "reference" else "reference", explained=1.0,
            statement=f"{per_item}'s step noise is drawn for each item of the batch by itself, the other side's for the whole batch",
            relation={"kind": "noise_items", "reference": mine.words, "candidate": theirs.words}, experiment=proof,
            fix="seed the step noise of each item by itself, so that it does not depend on the batch",
            equivalent=["batch-single-generator"])]  # fmt: skip
    known = [s for s in given_seeds(lab) if s != 0]
    if mine.seed != theirs.seed:
        strangers = [role for role, r in recipes.items() if r.seed == 0 and known and r.device == "cpu"]
        if len(strangers) == 1 and all(r.seed in known for role, r in recipes.items() if role not in strangers):
            return [_global(strangers[0], proof)]
        return [Explanation(
            id="seed", statement=f"candidate's step noise was drawn with seed {theirs.seed}, the reference's with seed {mine.seed}",
            relation={"kind": "noise_recipe", "reference": mine.seed, "candidate": theirs.seed}, explained=1.0, departs="unknown",
            experiment=proof, fix="draw the step noise from the request's generator on both sides",
            equivalent=["per-step-noise-global-rng"])]  # fmt: skip
    if mine.device != theirs.device:
        return [Explanation(
            id="generator-device", statement=f"candidate draws its step noise by {theirs.device}, the reference by {mine.device}",
            relation={"kind": "noise_recipe", "reference": mine.device, "candidate": theirs.device}, explained=1.0, experiment=proof,
            departs="unknown", fix=f"draw the step noise on the {mine.device} generator on both sides")]  # fmt: skip
    if mine.offset != theirs.offset and mine.scale == theirs.scale:
        early = "candidate" if theirs.offset < mine.offset else "reference"
        fresh = min(mine.offset, theirs.offset) == 0
        return [Explanation(
            id="rng-consumed-by-earlier-draw", departs="unknown", explained=1.0, experiment=proof,
            statement=f"candidate's step noise begins after {theirs.offset} values of its generator, the reference's after {mine.offset}",
            relation={"kind": "noise_recipe", "reference": mine.offset, "candidate": theirs.offset},
            fix="let both sides make the same draws from the request's generator before the loop" if not fresh else
                f"pass the request's generator on to the {early}'s scheduler, instead of a fresh one",
            equivalent=["per-step-noise-global-rng"] if fresh else [])]  # fmt: skip
    return []


def _source(place: Place, lab, role: str) -> str | None:
    for trace in (lab.traces[role], lab.last_forced if role == lab.patient else None):
        event = None if trace is None else trace.events.get(place)
        if event is not None and event.component:
            return event.component
    return None


def _global(role: str, proof: str) -> Explanation:
    return Explanation(
        id="per-step-noise-global-rng", departs=role, explained=1.0, experiment=proof,
        statement=f"{role} draws its step noise from the global generator, not from the request's",
        relation={"kind": "generator", "side": role, "source": "global"},
        fix=f"pass generator=... to scheduler.step in the {role}")  # fmt: skip


def _shifted(finding: Finding, lab) -> list[Explanation]:
    """Without a recipe: the candidate's noise of a step is, bit for bit, the reference's of another step."""
    mine = {p.step: _own(lab, "reference", p) for p in lab.traces["reference"].at("step_noise")}
    theirs = {p.step: _own(lab, "candidate", p) for p in lab.traces["reference"].at("step_noise")}
    steps = sorted(s for s in mine if mine[s] is not None and theirs.get(s) is not None)
    for by in (-3, -2, -1, 1, 2, 3):
        pairs = [(mine[s + by], theirs[s]) for s in steps if s + by in mine and mine[s + by] is not None]
        if pairs and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs):
            return [Explanation(
                id="rng-consumed-by-earlier-draw", departs="unknown", explained=1.0,
                statement=f"candidate's step noise is the reference's of {abs(by)} step(s) {'later' if by > 0 else 'earlier'}",
                relation={"kind": "noise_shifted", "steps": by},
                experiment=f"compared the noise of all steps: step k of the candidate equals step k {by:+d} of the reference, bit for bit",
                fix="let both sides make the same draws from the generator before the loop")]  # fmt: skip
    return []


def _own(lab, role: str, place: Place):
    return lab.own_value(role, place)
