"""Euler steps of flow matching without a scheduler to rebuild: x' = x + dt · v. Which dt did the candidate take?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.causes.schedule.replay import loop
from whydiff.measure.compare import relative_l2

_CLOSE = 1e-4  # a dt is a quotient of differences of float32 values


def explain(finding: Finding, lab) -> list[Explanation]:
    """Every step of both sides is one multiple of the prediction; the multiples are compared with the schedule's."""
    given = {role: loop(lab, role) for role in ("reference", "candidate")}
    if None in given.values() or finding.place not in finding.candidate:
        return []
    after = {role: [_after(finding, lab, role, place) for place in inputs.places] for role, inputs in given.items()}
    if any(t is None for ts in after.values() for t in ts):
        return []
    steps = {role: [_dt(x, v, y) for x, v, y in zip(inputs.samples, inputs.predictions, after[role])] for role, inputs in given.items()}
    if any(dt is None for dts in steps.values() for dt in dts):
        return another_history(given, after)
    mine, theirs = ({p.step: dt for p, dt in zip(given[role].places, steps[role])} for role in ("reference", "candidate"))
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
        if all(abs(r - times) <= _CLOSE for r in ratios.values()) and not _scheduled(given["reference"], theirs, apart):
            return [_repeated(apart, times, len(mine))]
    if len(apart) == 1 and (two := _next(given["reference"], apart[0])) and abs(theirs[apart[0]] - two) <= _CLOSE * abs(two):
        return [_repeated(apart, 2.0, len(mine))]
    return []


def _after(finding: Finding, lab, role: str, place) -> torch.Tensor | None:
    held = getattr(finding, role).get(place)
    return lab.own_value(role, place) if held is None else held


def another_history(given: dict, after: dict) -> list[Explanation]:
    """One side's updates use the sample and the prediction alone, the other's also the prediction of the step before.

    The shares of both predictions must add up to that of the one: two solvers of one equation agree to first order.
    """
    fits = {role: [_shares(given[role], k, after[role][k]) for k in range(1, len(after[role]))] for role in given}
    if not all(fits.values()) or any(fit is None for rows in fits.values() for fit in rows):
        return []
    uses = {role: [abs(last) > 1e-3 * abs(now) for _, now, last in rows] for role, rows in fits.items()}
    single = [role for role, used in uses.items() if not any(used)]
    other = [role for role, used in uses.items() if any(used)]
    if len(single) != 1:
        return []
    for (a, now, last), (b, whole, _) in zip(fits[other[0]], fits[single[0]]):
        if abs(a - b) > 1e-3 * abs(b) or abs(now) <= 1e-3 * abs(last) or abs(now + last - whole) > 1e-3 * abs(whole):
            return []
    return [Explanation(
        id="solver-class", stage="scheduler_step", departs="unknown", explained=1.0,
        statement=f"{other[0]} takes the steps of a multistep solver, which also use the prediction of the step before; the {single[0]}'s "
                  "use the one prediction alone",
        relation={"kind": "solver", "multistep": other[0], "shares": [[round(v, 6) for v in fit[1:]] for fit in fits[other[0]][:16]]},
        experiment=f"solved every update for the shares of the sample and of two predictions: nothing is left over, and the {other[0]}'s shares add "
                   f"up to the {single[0]}'s",
        fix="step with the same solver on both sides")]  # fmt: skip


def _shares(inputs, k: int, after: torch.Tensor) -> tuple[float, float, float] | None:
    """(a, b, c) with after = a sample + b prediction + c prediction of the step before, to rounding; None where that is not all."""
    columns = [inputs.samples[k], inputs.predictions[k], inputs.predictions[k - 1]]
    if any(t.numel() != after.numel() for t in columns) or not bool(after.isfinite().all()):
        return None
    table, y = torch.stack([t.flatten().double() for t in columns], 1), after.flatten().double()
    if len(y) < 12:
        return None
    shares = torch.linalg.lstsq(table, y[:, None]).solution.flatten()
    limit = 64 * torch.finfo(torch.float32 if after.dtype == torch.float64 else after.dtype).eps
    return tuple(shares.tolist()) if relative_l2(y, table @ shares) <= limit else None


def _repeated(apart: list[int], times: float, count: int) -> Explanation:
    where = "at every step" if len(apart) == count else "at step " + ", ".join(map(str, apart[:8]))
    did = "twice the reference's update" if times else "no update"
    return Explanation(
        id="step-double-application", stage="scheduler_step", departs="unknown", explained=1.0,
        statement=f"candidate makes {did} {where}", relation={"kind": "repeated_step", "times": int(times), "steps": apart[:64]},
        experiment=f"solved every update for its step: the candidate's is {number(times)} times the reference's {where}, with nothing left over",
        fix="apply the scheduler's step exactly once per step")  # fmt: skip


def _scheduled(given, dts: dict[int, float], steps: list[int]) -> bool:
    """Are these steps the ones that the sigmas ask for? Then it is the other side that departs: half a step is no repeated one."""
    sigmas = given.schedule.get("sigmas")
    if sigmas is None or max(steps) + 1 >= sigmas.numel():
        return False
    asked = {k: float(sigmas[k + 1].double() - sigmas[k].double()) for k in steps}
    return all(abs(dts[k] - asked[k]) <= _CLOSE * abs(asked[k]) for k in steps)


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
