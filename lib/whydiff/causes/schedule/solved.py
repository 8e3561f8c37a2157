"""Do both sides walk the same noise levels? If not: which shift, mu, end point or rounding separates them?"""

from __future__ import annotations

import itertools
import math

import torch

from whydiff.causes.finding import SAME_PARAMETER, Explanation, Finding, number
from whydiff.causes.model_input import rounded
from whydiff.causes.schedule.published import follows, published_grid, words_of
from whydiff.formulas.schedule import switch_step, unshift_sigmas
from whydiff.formulas.schedule_betas import solve_betas
from whydiff.formulas.schedule_solve import ScheduleFit, solve_schedule
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

# Two fitted numbers (a shift and an end, say) absorb any affine change of a list: that would prove nothing.
MOST_FITTED = 2


def explain(finding: Finding, lab) -> list[Explanation]:
    """Solve both schedules for their settings and name those in which they differ, fewest first."""
    if finding.place not in finding.candidate:
        return []
    mine, theirs = finding.reference[finding.place], finding.candidate[finding.place]
    if finding.probe == "timesteps":
        traces = [trace for trace in lab.traces.values() if trace is not None]
        if any(trace.at("alphas_cumprod") for trace in traces) or all(trace.at("sigmas") for trace in traces):
            return []  # a variance-preserving schedule follows other formulas; with sigmas at hand, they are what is solved
        mine, theirs = mine.double() / 1000, theirs.double() / 1000
    if max(mine.max(), theirs.max()) > 1 + 1e-6:
        return []  # so do its sigmas, which exceed 1
    pair = simplest_pair(fits(mine, lab), fits(theirs, lab))
    if pair is None:
        return []
    reference, candidate = pair
    explanations = []
    if not _close(shift_of(reference), shift_of(candidate)):
        explanations.append(_shifted(finding, lab, reference, candidate))
    if not _same_grid(reference, candidate):
        explanations.append(_grid(finding, lab, reference, candidate))
    return explanations


def fits(sigmas: torch.Tensor, lab) -> list[ScheduleFit]:
    """The settings that reproduce a list of sigmas to its rounding, best first."""
    found = solve_schedule(sigmas, tokens=tokens(lab), config=scheduler_config(lab))
    if 5e-7 < 1 - float(sigmas[0]) < 2e-6:  # diffusers moves a first sigma of 1 down by 1e-6, against log(0)
        whole = torch.cat([sigmas.new_ones(1), sigmas[1:]])
        found += solve_schedule(whole, tokens=tokens(lab), config=scheduler_config(lab))
    return [fit for fit in found if fit.explains and fit.free < MOST_FITTED]


def simplest_pair(reference: list[ScheduleFit], candidate: list[ScheduleFit]):
    """The two fits that differ in the fewest settings; of equals the pair with the fewest fitted numbers."""
    pairs = itertools.product(reference, candidate)
    return min(pairs, key=lambda pair: (_apart(*pair), pair[0].free + pair[1].free), default=None)


def _apart(one: ScheduleFit, other: ScheduleFit) -> int:
    return ((not _close(shift_of(one), shift_of(other))) + (not _same_grid(one, other))
            + (one.parameters.get("shift_terminal") != other.parameters.get("shift_terminal")))  # fmt: skip


def _same_grid(one: ScheduleFit, other: ScheduleFit) -> bool:
    """One grid: the same by name, or with the same end before the shift (a fitted end is known to rounding only)."""
    if one.grid == other.grid and "last" not in one.parameters and "last" not in other.parameters:
        return True
    return one.steps == other.steps and math.isclose(base_end(one), base_end(other), rel_tol=SAME_PARAMETER)


def base_end(fit: ScheduleFit) -> float:
    """The last sigma before the shift was applied."""
    return float(unshift_sigmas([fit.last], shift_of(fit))[0])


def shift_of(fit: ScheduleFit) -> float:
    """The effective shift: exp(mu) where mu was fitted."""
    return fit.shift if fit.shift is not None else math.exp(fit.mu) if fit.mu is not None else 1.0


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=SAME_PARAMETER)


def tokens(lab) -> int | None:
    """The number of tokens the network receives, (B, L, C) -> L; None for networks that take pictures."""
    for trace in lab.traces.values():
        if trace is None:
            continue
        for place, event in (trace.events | trace.sketches).items():
            if place.probe in ("latent_model_input", "initial_latents") and event.tensor.dim() == 3:
                return event.tensor.shape[1]
    return None


def scheduler_config(lab) -> dict | None:
    config = lab.config("scheduler", "num_train_timesteps")
    return None if config is None else dict(config)


def _shifted(finding: Finding, lab, reference: ScheduleFit, candidate: ScheduleFit) -> Explanation:
    mine, theirs = shift_of(reference), shift_of(candidate)
    share = _share(finding, reference, candidate)
    relation = {"kind": "schedule_shift", "reference": mine, "candidate": theirs} | switches(finding, lab)
    dynamic = _token_factor(reference, candidate)
    if dynamic is not None:
        mu, factor, departs = dynamic
        count = tokens(lab)
        wrong = "candidate" if departs == "candidate" else "reference"
        return Explanation(
            id="dynamic-shift-seq-len", equivalent=["shift-constant"], departs=departs, explained=share,
            statement=f"{wrong}'s mu is that of {count * factor:g} tokens; the picture has {count}: shift {number(round(theirs, 4))} "
                      f"in the candidate, {number(round(mine, 4))} in the reference",
            relation=relation | {"kind": "dynamic_shift", "mu_reference": math.log(mine), "mu_candidate": math.log(theirs),
                                 "tokens": count, "factor": factor},
            experiment=f"recomputed mu from {count} tokens and the {wrong}'s sigmas with it: equals the other side's",
            fix=f"compute mu from the packed token count {count} (mu {mu:.6g}) where the {wrong} sets its timesteps")  # fmt: skip
    words = f"candidate's sigmas are the reference's with shift {number(round(theirs, 4))} instead of {number(round(mine, 4))}"
    found = switches(finding, lab)
    if found:
        words += f"; the expert switch moves from step {found['switch_reference']} to {found['switch_candidate']}"
    return Explanation(
        id="shift-constant", equivalent=["shift-applied-twice"], explained=share, statement=words, relation=relation, departs="unknown",
        experiment=f"recomputed the candidate's sigmas with shift {number(round(mine, 4))}: equals the reference's"
                   + ("; then repaired them and ran the rest again" if lab.patient else ""),
        fix=f"flow_shift={number(round(mine, 4))} where the candidate builds its scheduler")  # fmt: skip


def _token_factor(reference: ScheduleFit, candidate: ScheduleFit):
    """(mu of the true count, factor, who departs) when one shift is that of the packed tokens and the other of a multiple."""
    for departs, right, wrong in (("candidate", reference, candidate), ("reference", candidate, reference)):
        factor = wrong.parameters.get("tokens_ratio")
        if right.parameters.get("tokens_ratio") == 1.0 and factor not in (None, 1.0):
            return right.mu, float(factor), departs
    return None


def _grid(finding: Finding, lab, reference: ScheduleFit, candidate: ScheduleFit) -> Explanation:
    mine, theirs = base_end(reference), base_end(candidate)
    words = f"candidate's sigmas come from a grid that ends at {_end(theirs)} before the shift, the reference's at {_end(mine)}"
    if _close(mine, theirs):
        words = f"candidate's sigmas lie on the grid {candidate.grid}, the reference's on {reference.grid}"
    departs, source = _departs(finding, lab, reference, candidate)
    right, end = ("candidate", theirs) if departs == "reference" else ("reference", mine)
    return Explanation(
        id="sigma-grid-endpoints", explained=_share(finding, reference, candidate), statement=words,
        relation={"kind": "sigma_grid", "reference": mine, "candidate": theirs, "grid_reference": reference.grid,
                  "grid_candidate": candidate.grid} | ({"published": source} if source else {}), departs=departs,
        experiment="recomputed both lists of sigmas from their end points and shift, and each equals its side's: the reference's on the grid "
                   f"{reference.grid}{words_of(reference.grid)}, the candidate's on {candidate.grid}{words_of(candidate.grid)}"
                   + (f"; the reference code's grid ({source}) is {_whose(departs)}" if source else ""),
        fix=f"build the grid as the {right} does, ending at {_end(end)}"
            + (" (linspace(1, 1/N, N) has 1/N)" if right == "reference" and _close(end, 1 / reference.steps) else ""))  # fmt: skip


def _departs(finding: Finding, lab, reference: ScheduleFit, candidate: ScheduleFit) -> tuple[str, str]:
    """(who walks another grid than the model's reference code, where that is written); "unknown" where nobody knows its grid."""
    known = published_grid(lab)
    if known is None:
        return "unknown", ""
    grid, source = known
    scale = 1000 if finding.probe == "timesteps" else 1
    follow = {role: follows(getattr(finding, role)[finding.place].double() / scale, grid, fit.steps, shift_of(fit))
              for role, fit in (("reference", reference), ("candidate", candidate))}  # fmt: skip
    wrong = [role for role, right in follow.items() if not right]
    return ("both" if len(wrong) == 2 else wrong[0] if wrong else "unknown"), source


def _whose(departs: str) -> str:
    return {"reference": "the candidate's", "candidate": "the reference's", "both": "neither side's"}.get(departs, "both sides'")


def _end(value: float) -> str:
    return f"{value:.4g}"


def _share(finding: Finding, reference: ScheduleFit, candidate: ScheduleFit) -> float:
    """How much of the difference the two fits account for together: both reproduce their side up to their residuals."""
    left = math.hypot(reference.residual, candidate.residual)
    return 1.0 - (left / (finding.difference or 1.0)) ** 2


def switches(finding: Finding, lab) -> dict:
    """The step from which the second expert runs on each side, where the pipeline has a boundary (Wan2.2)."""
    found = {role: expert_switch(lab, role) for role in ("reference", "candidate")}
    return {f"switch_{role}": index for role, index in found.items()} if None not in found.values() else {}


def expert_switch(lab, role: str) -> int | None:
    """First step, from 0, at which another network takes over: as seen in the trace, else from sigmas and boundary_ratio."""
    trace = lab.traces[role]
    if trace is None:
        return None
    experts = [(p.step, trace.events[p].component) for p in trace.at("latent_model_input")]
    first = experts[0][1] if experts else None
    seen = next((step for step, component in experts if component != first), None)
    if seen is not None:
        return seen
    side = lab.sides[role]
    boundary = getattr(getattr(side.subject, "config", None), "boundary_ratio", None) if side is not None else None
    timesteps = trace.get("timesteps")
    if boundary is None or timesteps is None:
        return None
    return switch_step((timesteps.double() / 1000).tolist(), boundary)


def explain_timesteps(finding: Finding, lab) -> list[Explanation]:
    """Sigmas agree and timesteps do not: cut to integers, rounded, or not shifted."""
    if finding.place not in finding.candidate or lab.own_value("candidate", Place("sigmas")) is None:
        return []
    sigmas = lab.traces["reference"].get("sigmas")
    theirs = lab.own_value("candidate", Place("sigmas"))
    if sigmas is None or sigmas.shape != theirs.shape or relative_l2(sigmas, theirs) > 1e-6:
        return []
    return rounded(finding)


def explain_alphas(finding: Finding, lab) -> list[Explanation]:
    """Both products of alphas follow a known formula of betas: another formula, end point, or the rescaling to zero SNR."""
    if finding.place not in finding.candidate:
        return []
    found = {role: solve_betas(getattr(finding, role)[finding.place].double().numpy()) for role in ("reference", "candidate")}
    mine, theirs = found["reference"], found["candidate"]
    if mine is None or theirs is None or mine == theirs:
        return []
    same_betas = (mine.formula, mine.start, mine.end) == (theirs.formula, theirs.start, theirs.end)
    id_ = "zero-snr-with-epsilon" if same_betas else "beta-schedule-name" if mine.formula != theirs.formula else "scheduler-config"
    return [Explanation(
        id=id_, departs="unknown", explained=1.0, equivalent=["checkpoint-scheduler-config-ignored"],
        statement=f"candidate's alphas_cumprod are those of {theirs}, the reference's of {mine}",
        relation={"kind": "betas", "reference": str(mine), "candidate": str(theirs)},
        experiment="computed both products of alphas from those betas: each equals its side's",
        fix=f"use {mine} on both sides, if that is the checkpoint's own")]  # fmt: skip
