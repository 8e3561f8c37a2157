"""A network that gives an earlier step's prediction again, or skips some of its modules: a step cache on one side."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding

_OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(finding: Finding, lab) -> list[Explanation]:
    """The candidate's network returns, bit for bit, what it returned at the step before, and the reference's does not."""
    if len(finding.pairs) != len(finding.places) or any(p.step is None for p in finding.places):
        return []
    for role in ("candidate", "reference"):
        if all(_repeats(lab, role, p, getattr(finding, role)[p]) and not _repeats(lab, _OTHER[role], p, getattr(finding, _OTHER[role])[p])
               for p in finding.places):  # fmt: skip
            steps = sorted({p.step for p in finding.places})
            return [Explanation(
                id="accelerator-on-one-side", stage="caching_parallel", equivalent=["cache-spent-state"], departs=role, explained=1.0,
                statement=f"{role}'s network returns its prediction of the step before again at steps {', '.join(map(str, steps[:8]))}; the "
                          f"{_OTHER[role]}'s is evaluated anew",
                relation={"kind": "reused", "side": role, "steps": steps[:64]},
                experiment=f"compared each prediction with the one of the step before: at those steps the {role}'s is bit for bit the same, "
                           "although its input is another",
                fix=f"switch the step cache off in the {role}, or declare it (declares: {{cache: ...}})",
                covers={"noise_pred_text", "noise_pred_uncond"})]  # fmt: skip
    return []


def _repeats(lab, role: str, place, own: torch.Tensor) -> bool:
    """Is what a side returned at a place what it returned one or more steps earlier, with nothing else in between?"""
    for back in range(1, place.step + 1):
        before = lab.own_value(role, dataclasses.replace(place, step=place.step - back))
        if before is None or before.shape != own.shape:
            return False
        if torch.equal(before, own):
            return bool(own.any())
        if back > 4:
            return False
    return False
