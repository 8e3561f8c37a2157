"""One trial: plant, prove that it changed something, diagnose. Each of these runs in a process of its own."""

from __future__ import annotations

import dataclasses
import inspect
import time
from typing import Any

import torch

from whydiff.faults import hosts
from whydiff.faults.fault import FAULTS, Host, Trial
from whydiff.faults.plan import Plan

SMALL = 1e-2  # an effect below this is held against how far the healthy side moves when its weights move by one ulp


@dataclasses.dataclass
class Planted(Trial):
    """A trial with something in it. `module`: the mutated one; `mutation`: what was done to it; `declares`: what a benign
    variation says about itself."""

    module: str | None = None
    mutation: str | None = None
    declares: dict | None = None


def planted(plan: Plan, ids: list[str] | None = None) -> Planted:
    """A fresh pair of pipelines with the plan's faults (or those of `ids`) in one of them."""
    trial = Planted(*hosts.pair(plan.host), plan.draw("mutation"))
    faulty, healthy = trial.faulty, trial.healthy
    if plan.suite == "mutations":
        from whydiff.faults.mutations import mutate

        trial.module, trial.mutation = mutate(trial)
        return trial
    if plan.suite == "benign":
        from whydiff.faults.benign import BENIGN

        trial.declares = BENIGN[plan.id].declares or None
        BENIGN[plan.id].vary(trial)
        return trial
    named = [part for part in plan.id.split("+") if part in FAULTS] if ids is None else ids
    for id_ in named:
        for side in (faulty, healthy):
            side.call.update(FAULTS[id_].call)
    for id_ in named:
        trial.draw = plan.draw(f"inject/{id_}")
        FAULTS[id_].inject(trial)
    return trial


def roles(plan: Plan, trial: Planted) -> dict[str, Host]:
    """Who is the reference and who the candidate."""
    other = "reference" if plan.side == "candidate" else "candidate"
    return {plan.side: trial.faulty, other: trial.healthy}


def prove(plan: Plan) -> dict[str, Any]:
    """Did planting change anything? `how`: "image" (the picture of one call), "leak" (only a call after another), "nothing".

    No engine: both sides are called as anybody would call them. Small effects come with the healthy side's `floor`.
    """
    for form in ({}, {"output_type": "np"}):
        trial = planted(plan)  # one that was never called: what leaks must not look like a difference of one call
        if form and not _takes(trial.faulty, "output_type"):
            break
        theirs, mine = (hosts.image_of(_asked(side, form)) for side in (_twin(plan, trial), trial.faulty))
        if not _equal(mine, theirs):
            effect = _distance(theirs, mine)
            proof = {"how": "image", "effect": effect}
            if effect is not None and effect < SMALL:
                proof["floor"] = max(_ulp_floor(plan, trial, theirs, form, seed) for seed in range(3))
            return proof | _module(trial)
    trial = planted(plan)
    first = hosts.image_of(trial.faulty)
    hosts.image_of(another_call(trial.faulty))
    second = hosts.image_of(trial.faulty)
    return {"how": "nothing" if _equal(first, second) else "leak", "effect": _distance(first, second)} | _module(trial)


def prove_pair(plan: Plan) -> dict[str, Any]:
    """Both of a pair show: with both, the picture is another one than with either alone."""
    ids = plan.id.split("+")[1:]
    pictures = [hosts.image_of(planted(plan, chosen).faulty) for chosen in (ids, ids[:1], ids[1:])]
    healthy = hosts.image_of(_twin(plan, planted(plan, [])))
    both, *alone = pictures
    hidden = any(_equal(both, one) or _equal(healthy, one) for one in alone) or not all(p.isfinite().all() for p in pictures)
    return {"how": "nothing" if hidden else "image", "effect": _distance(healthy, both)}


def diagnosed(plan: Plan) -> dict[str, Any]:
    """The verdict as a dict, and the seconds it took (wall and CPU)."""
    import whydiff

    trial = planted(plan)
    sides = roles(plan, trial)
    declares = {plan.side: trial.declares} if trial.declares else None
    start, cpu = time.perf_counter(), time.process_time()
    verdict = whydiff.diagnose(reference=sides["reference"].pipeline, candidate=sides["candidate"].pipeline, declares=declares,
                               call={role: side.call for role, side in sides.items()})  # fmt: skip
    return {"verdict": verdict.to_dict(), "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def another_call(host: Host) -> Host:
    """The same pipeline asked for something else: the B of A-B-A."""
    call = dict(host.call)
    other = "a green triangle"
    if "prompt" in call:
        call["prompt"] = other if isinstance(call["prompt"], str) else [other] * len(call["prompt"])
    if "negative_prompt" in call:
        call["negative_prompt"] = "a yellow circle" if isinstance(call["negative_prompt"], str) else call["negative_prompt"]
    call["seed"] = (call.get("seed") or 0) + 1
    return Host(host.kind, host.pipeline, call)


def _twin(plan: Plan, trial: Planted) -> Host:
    """A healthy one of the faulty side's own kind, called as the healthy side is."""
    if plan.host in hosts.PARTNERS:
        return Host(plan.host, hosts.host(plan.host).pipeline, dict(trial.healthy.call))
    return trial.healthy


def _asked(host: Host, form: dict) -> Host:
    return Host(host.kind, host.pipeline, host.call | form)


def _takes(host: Host, argument: str) -> bool:
    return argument in inspect.signature(host.pipeline).parameters


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30))


def _distance(a: torch.Tensor, b: torch.Tensor) -> float | None:
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return None
    return float((a - b).norm() / a.norm().clamp_min(1e-30))


def _ulp_floor(plan: Plan, trial: Planted, picture: torch.Tensor, form: dict, seed: int) -> float:
    """How far the healthy picture moves when every weight moves by one part in 2^23, up or down at random."""
    twin = hosts.host(plan.host)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for component in twin.pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                for parameter in component.parameters():
                    sign = torch.randint(0, 2, parameter.shape, generator=draw, dtype=parameter.dtype) * 2 - 1
                    parameter.mul_(1 + sign * 2.0**-23)
    return _distance(picture, hosts.image_of(Host(plan.host, twin.pipeline, trial.healthy.call | form))) or 0.0


def _module(trial: Planted) -> dict:
    return {"module": trial.module, "mutation": trial.mutation} if trial.module else {}
