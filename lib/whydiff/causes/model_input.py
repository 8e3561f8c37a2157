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
        return explain_per_token(finding, lab) or rounded(finding)
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
    """One side's timesteps are the other's, cut to integers or rounded to bfloat16 (at their own scale or times 1000)."""
    reference, candidate = finding.stacked()
    for role, fine, coarse in (("candidate", reference, candidate), ("reference", candidate, reference)):
        other = "reference" if role == "candidate" else "candidate"
        stored = getattr(finding, role)[finding.place].dtype
        for scale in (1.0, 1000.0):
            mine, theirs = fine * scale, coarse * scale
            ways = [("timestep-truncated-to-int", "cut to integers", torch.trunc(mine)),
                    ("timestep-rounded-to-bf16", "rounded to bfloat16", mine.to(torch.bfloat16).to(torch.float64))]  # fmt: skip
            # Where the values are stored in 16 bit, that rounding needs no other to explain it.
            for id_, words, made in reversed(ways) if stored == torch.bfloat16 else ways:
                if torch.equal(made, mine):
                    continue  # nothing to cut or to round
                if stored in (torch.bfloat16, torch.float16):  # divided by 1000 in that type: rounded once more
                    made = (made / scale).to(stored).to(torch.float64) * scale
                left = relative_l2(theirs, made) if theirs.any() else float("inf")
                if left <= 2 * torch.finfo(torch.float32).eps:
                    return [Explanation(
                        id=id_, stage="schedule", departs=role, statement=f"{role}'s timesteps are the {other}'s {words}",
                        relation={"kind": "rounded", "scale": scale, "side": role},
                        explained=1.0 - (left / (finding.difference or 1.0)) ** 2,
                        experiment=f"the {other}'s timesteps {words} equal the {role}'s at every step",
                        fix="keep timesteps in float32 up to the network's time embedding")]  # fmt: skip
    return []


def explain_per_token(finding: Finding, lab) -> list[Explanation]:
    """One timestep for all tokens on one side; on the other some tokens, which hold the clean image, have timestep 0."""
    if finding.probe.partition("/")[2] not in ("timestep", "timesteps", "t"):
        return []
    zeros = {}
    for role in ("reference", "candidate"):
        other = "candidate" if role == "reference" else "reference"
        shares = [_zeroed(lab.own_value(role, place), lab.own_value(other, place)) for place in finding.places]
        if shares and all(share is not None for share in shares):
            zeros[role] = shares[0]
    if len(zeros) != 1:
        return []
    (role,) = zeros
    other, (count, of) = "candidate" if role == "reference" else "reference", zeros[role]
    return [Explanation(
        id="per-token-timestep", stage="scheduler_step", departs="unknown", explained=1.0,
        statement=f"{role}'s network receives a timestep for each token, 0 for {count} of {of}; the {other}'s receives one timestep for all",
        relation={"kind": "per_token", "side": role, "tokens": count, "of": of},
        experiment=f"set the {other}'s one timestep to 0 at those {count} of {of} tokens: equals the {role}'s at every step",
        fix="give the tokens of the conditioning frame timestep 0 on both sides, if the model was trained so",
        covers={"noise_pred_text", "noise_pred_uncond"} if finding.place not in finding.candidate else set())]  # fmt: skip


def _zeroed(mine, theirs) -> tuple[int, int] | None:
    """(tokens at 0, tokens) where `mine` is `theirs`, one value per sample, but for zeros; None where it is not."""
    if mine is None or theirs is None or mine.dim() < 2 or not theirs.numel():
        return None
    common = theirs.double().reshape(theirs.shape[0] if theirs.dim() else 1, -1)
    if (common != common[:, :1]).any() or common.shape[0] not in (1, mine.shape[0]) or not (common != 0).all():
        return None
    values = mine.double().reshape(mine.shape[0], -1)
    zero = values == 0
    if not zero.any() or zero.all() or not bool((zero | ((values - common[:, :1]).abs() <= 1e-5 * common[:, :1].abs())).all()):
        return None
    return int(zero[0].sum()), values.shape[1]
