"""Does the network receive the same embedded guidance: the same number, 1000 times it, or none at all?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number, same_parameter
from whydiff.causes.guidance.formula import scale_id, stated, who

GUIDANCE = ("guidance", "embedded_guidance")  # how the argument's name begins


def is_guidance(finding: Finding) -> bool:
    return finding.probe.startswith("model_input/") and finding.probe.partition("/")[2].startswith(GUIDANCE)


def explain(finding: Finding, lab) -> list[Explanation]:
    """`guidance-times-1000`, `guidance-scale` or `zero-value-treated-as-missing` at `model_input/guidance`."""
    if not is_guidance(finding) or not finding.pairs:
        return []
    values = [side.flatten().unique() for pair in finding.pairs for side in pair]
    reference, candidate = torch.cat(values[::2]).unique(), torch.cat(values[1::2]).unique()
    if reference.numel() != 1 or candidate.numel() != 1:
        return []
    mine, theirs = reference.item(), candidate.item()
    eps = max(torch.finfo(t.dtype).eps if t.is_floating_point() else 0.0 for pair in finding.pairs for t in pair)
    for factor in (1000.0, 0.001):
        if mine and abs(theirs / mine / factor - 1) <= 8 * eps:
            return [_thousand(lab, mine, theirs, factor)]
    asked = {role: stated(lab, role) for role in ("reference", "candidate")}
    id_ = scale_id(asked, mine, theirs)[0]
    explicit = {role: [v for _, v, told in asked[role] if told] for role in asked}
    same = bool(explicit["reference"]) and explicit["reference"] == explicit["candidate"]
    silent = ["default-guidance-differs", "saved-preset-drops-parameter"] if id_ == "guidance-scale" else ["guidance-scale"]
    told = all(any(same_parameter(v, used) for v in explicit[role]) for role, used in (("reference", mine), ("candidate", theirs)))
    fix = f"pass guidance_scale={number(mine)} to both sides"
    if same:
        fix = f"both sides were asked for {number(explicit['reference'][0])}: look where a side changes it before its network"
    return [Explanation(
        id=id_, stage="guidance" if id_ == "guidance-scale" else "parameters",
        statement=f"candidate's network receives guidance {number(theirs)}, the reference's {number(mine)}",
        relation={"kind": "setting", "setting": "guidance_scale", "reference": mine, "candidate": theirs}, explained=1.0,
        experiment=f"put guidance {number(mine)} where the candidate hands it to its network: equals the reference's at every step",
        fix=fix, departs=who(asked, mine, theirs), equivalent=[] if told else silent)]  # fmt: skip


def _thousand(lab, mine: float, theirs: float, factor: float) -> Explanation:
    """Guidance embedders of FLUX and its kin multiply by 1000 themselves (diffusers transformer_flux.py, forward)."""
    large, side = max(mine, theirs), "candidate" if factor > 1 else "reference"
    asked = [v for role in ("reference", "candidate") for _, v, _ in stated(lab, role)]
    right = next((s for s, v in (("reference", theirs), ("candidate", mine)) if any(same_parameter(a, v) for a in asked)), None)
    departs = right or ("candidate" if large < 1000 * 30 else "unknown")
    undo = "multiply by 1000" if factor < 1 else "divide by 1000"
    size = "large" if factor > 1 else "small"
    return Explanation(
        id="guidance-times-1000", stage="guidance",
        statement=f"the guidance that reaches the candidate's network is {number(theirs)}, 1000 times too {size}: "
                  f"the reference's receives {number(mine)}",
        relation={"kind": "scale", "factor": theirs / mine}, explained=1.0, departs=departs,
        experiment=f"scaled the candidate's guidance back by {number(1 / factor)}: equals the reference's at every step",
        fix=f"{undo} where the candidate hands guidance to its network (or do it once, not twice; the {side}'s is the larger)")  # fmt: skip


def explain_absent(finding: Finding, lab) -> list[Explanation]:
    """Recorded alone: one side's network was called without guidance, and its predictions differ from there on."""
    if not is_guidance(finding) or lab.patient is not None:
        return []
    absent = [role for role in ("reference", "candidate") if any(p.probe == finding.probe for p in lab.traces[role].absent)]
    if len(absent) != 1:
        return []
    role = absent[0]
    other = "reference" if role == "candidate" else "candidate"
    given = lab.traces[other].get(finding.probe, finding.place.step, finding.place.branch)
    value = None if given is None or not given.numel() else given.flatten()[0].item()
    received = "guidance" if value is None else f"guidance {number(value)}"
    return [Explanation(
        id="guidance-tensor-none", stage="guidance", statement=f"{role} passes no guidance to its network; the {other}'s receives {received}",
        relation={"kind": "absent", "side": role, other: value}, explained=1.0, departs=role,
        experiment=f"read what both networks were called with: the {other}'s received {received}, the {role}'s None",
        fix=f"pass the guidance tensor to the {role}'s network", equivalent=["true-cfg-vs-embedded"])]  # fmt: skip
