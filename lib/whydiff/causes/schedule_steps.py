"""Euler steps of flow matching without a scheduler to rebuild: x' = x + dt · v. Which dt did the candidate take?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.causes.scheduler.replay import loop
from whydiff.measure.compare import relative_l2

_CLOSE = 1e-4  # a dt is a quotient of differences of float32 values


def explain(finding: Finding, lab) -> list[Explanation]:
    """Every step of both sides is one multiple of the prediction; the multiples are compared with the schedule's."""
    given = {role: loop(lab, role) for role in ("reference", "candidate")}
    if None in given.values() or finding.place not in finding.candidate:
        return []
    steps = {}
    for role, inputs in given.items():
        steps[role] = {}
        for k, place in enumerate(inputs.places):
            after = getattr(finding, role).get(place)
            after = lab.own_value(role, place) if after is None else after
            dt = None if after is None else _dt(inputs.samples[k], inputs.predictions[k], after)
            if dt is None:
                return []
            steps[role][place.step] = dt
    mine, theirs = steps["reference"], steps["candidate"]
    apart = [p.step for p in finding.places]
    ratios = {k: theirs[k] / mine[k] for k in apart if mine[k]}
    if len(ratios) != len(apart):
        return []
    if all(abs(r + 1) <= _CLOSE for r in ratios.values()) and len(ratios) == len(mine):
        return [Explanation(
            id="velocity-sign", stage="model_forward", departs="unknown", explained=1.0,
            statement="candidate's steps go the other way: the sign of its prediction, or of its step, is reversed",
            relation={"kind": "sign", "factor": -1.0}, experiment="solved every update for its step: the candidate's are the reference's times -1",
            fix="check the direction of the step: latents + (sigma_next - sigma) * velocity, with velocity = noise - image")]  # fmt: skip
    for times in (2.0, 0.0):
        if all(abs(r - times) <= _CLOSE for r in ratios.values()):
            return [_repeated(apart, times, len(mine))]
    if len(apart) == 1 and (two := _next(given["reference"], apart[0])) and abs(theirs[apart[0]] - two) <= _CLOSE * abs(two):
        return [_repeated(apart, 2.0, len(mine))]
    return []


def _repeated(apart: list[int], times: float, count: int) -> Explanation:
    where = "at every step" if len(apart) == count else "at step " + ", ".join(map(str, apart[:8]))
    did = "twice the reference's update" if times else "no update"
    return Explanation(
        id="step-double-application", stage="scheduler_step", departs="unknown", explained=1.0,
        statement=f"candidate makes {did} {where}", relation={"kind": "repeated_step", "times": int(times), "steps": apart[:64]},
        experiment=f"solved every update for its step: the candidate's is {number(times)} times the reference's {where}, with nothing left over",
        fix="apply the scheduler's step exactly once per step")  # fmt: skip


def _next(given, step: int) -> float | None:
    """dt over two intervals of the sigmas, as a stepped-twice list index takes it."""
    sigmas = given.schedule.get("sigmas")
    if sigmas is None or step + 2 >= sigmas.numel():
        return None
    return float(sigmas[step + 2].double() - sigmas[step].double())


def _dt(sample: torch.Tensor, prediction: torch.Tensor, after: torch.Tensor) -> float | None:
    """dt with after = sample + dt · prediction, to rounding; None where the update is no such multiple."""
    if not (sample.numel() == prediction.numel() == after.numel()):
        return None
    x, v, y = (t.flatten().double() for t in (sample, prediction, after))
    if not v.any() or not bool(y.isfinite().all()):
        return None
    dt = float(v @ (y - x)) / float(v @ v)
    return dt if relative_l2(y, x + dt * v) <= 16 * torch.finfo(torch.float32 if after.dtype == torch.float64 else after.dtype).eps else None
