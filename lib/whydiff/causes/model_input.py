"""Does the network receive the same timestep and guidance?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.measure.compare import relative_l2


def ratio(finding: Finding) -> tuple[float, float]:
    """The factor that takes the reference's values to the candidate's, and the relative L2 distance it leaves."""
    reference, candidate = finding.stacked()
    if reference.shape != candidate.shape:
        return 1.0, float("inf")
    factor = (reference @ candidate / (reference @ reference)).item() if reference.norm() else 1.0
    left = relative_l2(candidate, factor * reference) if candidate.norm() else 0.0
    return factor, left


def explain(finding: Finding, lab) -> list[Explanation]:
    argument = finding.probe.partition("/")[2]
    factor, left = ratio(finding)
    eps = max(torch.finfo(t.dtype).eps if t.is_floating_point() else 0.0 for pair in finding.pairs for t in pair)
    exact = left <= 4 * eps  # one rounding on each side, and one of the factor
    thousand = exact and any(abs(factor / k - 1) <= 8 * eps for k in (1000.0, 0.001))
    share = 1.0 - (left * abs(factor) / (finding.difference or 1.0)) ** 2 if exact else 0.0
    if argument in ("timestep", "timesteps", "t") and thousand:
        return [_thousand(finding, "timestep-scale-1000", "timestep", "schedule", factor, share)]
    if argument.startswith(("guidance", "embedded_guidance")):
        if thousand:
            return [_thousand(finding, "guidance-times-1000", "guidance", "guidance", factor, share)]
        return _guidance_scale(finding, lab)
    if argument in ("timestep", "timesteps", "t"):
        return rounded(finding)
    return []


def _thousand(finding: Finding, id_: str, what: str, stage: str, factor: float, share: float) -> Explanation:
    words = "1000 times too small" if factor < 1 else "1000 times too large"
    undo = "multiply by 1000" if factor < 1 else "divide by 1000"
    return Explanation(
        id=id_, stage=stage, statement=f"the {what} that reaches the candidate's network is {words}",
        relation={"kind": "scale", "factor": factor}, explained=share,
        experiment=f"scaled the candidate's {finding.probe} back by {number(1 / factor)}: equals the reference's at every step",
        fix=f"{undo} where the candidate hands {what} to its network (or do it once, not twice)")  # fmt: skip


def _guidance_scale(finding: Finding, lab) -> list[Explanation]:
    """Another guidance: one constant on each side."""
    reference, candidate = finding.stacked()
    if (reference != reference[0]).any() or (candidate != candidate[0]).any():
        return []
    mine, theirs = reference[0].item(), candidate[0].item()
    asked = {role: getattr(lab.case, role).live.call.get("guidance_scale") if getattr(lab.case, role).live else None
             for role in ("reference", "candidate")}  # fmt: skip
    fix = f"pass guidance_scale={number(mine)} to both sides"
    if asked["reference"] is not None and asked["reference"] == asked["candidate"]:
        fix = f"both sides were asked for {number(asked['reference'])}: look where the candidate changes it before its network"
    return [Explanation(
        id="guidance-scale", stage="guidance",
        statement=f"candidate's network receives guidance {number(theirs)}, the reference's {number(mine)}",
        relation={"kind": "setting", "setting": "guidance_scale", "reference": mine, "candidate": theirs}, explained=1.0,
        experiment=f"put guidance {number(mine)} where the candidate hands it to its network: equals the reference's at every step",
        fix=fix, departs="unknown")]  # fmt: skip


def rounded(finding: Finding) -> list[Explanation]:
    """Timesteps that are the reference's, cut to integers or rounded to bfloat16 (at their own scale or times 1000)."""
    reference, candidate = finding.stacked()
    for scale in (1.0, 1000.0):
        mine, theirs = reference * scale, candidate * scale
        for id_, words, rounded in (
            ("timestep-truncated-to-int", "cut to integers", torch.trunc(mine)),
            ("timestep-rounded-to-bf16", "rounded to bfloat16", mine.to(torch.bfloat16).to(torch.float64)),
        ):
            left = relative_l2(theirs, rounded)
            if left <= 2 * torch.finfo(torch.float32).eps:
                return [Explanation(
                    id=id_, stage="schedule", statement=f"candidate's timesteps are the reference's {words}",
                    relation={"kind": "rounded", "scale": scale}, explained=1.0 - (left / (finding.difference or 1.0)) ** 2,
                    experiment=f"the reference's timesteps {words} equal the candidate's at every step",
                    fix="keep timesteps in float32 up to the network's time embedding")]  # fmt: skip
    return []
