"""A network that gives an earlier step's prediction again, or skips some of its modules: a step cache on one side."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding

_OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(finding: Finding, lab) -> list[Explanation]:
    """One side's network returns, bit for bit, what it returned at the step before, and the other's does not."""
    found = _steps(finding, lab)
    return [] if found is None or len(found[1]) < len(finding.places) else [_explanation(*found, lab, {"noise_pred_text", "noise_pred_uncond"})]


def apart(finding: Finding, lab) -> tuple[list[tuple[Finding, Explanation]], Finding]:
    """Steps at which a prediction is used again, taken out of a finding that has others: those have a cause of their own."""
    found = _steps(finding, lab) if finding.probe in ("noise_pred_text", "noise_pred_uncond") else None
    if found is None or not 0 < len(found[1]) < len(finding.places):
        return [], finding
    role, places = found
    part = dataclasses.replace(finding, places=places)
    rest = dataclasses.replace(finding, places=[p for p in finding.places if p not in places])
    return [(part, _explanation(role, places, lab, set()))], rest


def _steps(finding: Finding, lab) -> tuple[str, list] | None:
    """(the side that uses predictions again, the places at which it does); None where neither or both do."""
    if len(finding.pairs) != len(finding.places) or any(p.step is None for p in finding.places):
        return None
    again = {role: [p for p in finding.places if _repeats(lab, role, p, getattr(finding, role)[p])] for role in ("candidate", "reference")}
    role = max(again, key=lambda r: len(again[r]))
    return (role, again[role]) if again[role] and not again[_OTHER[role]] else None


def _explanation(role: str, places: list, lab, covers: set[str]) -> Explanation:
    steps = sorted({p.step for p in places})
    return Explanation(
        id="accelerator-on-one-side", stage="caching_parallel", equivalent=["cache-spent-state"], departs=role, explained=1.0,
        statement=f"{role}'s network returns its prediction of the step before again at steps {', '.join(map(str, steps[:8]))}; the "
                  f"{_OTHER[role]}'s is evaluated anew",
        relation={"kind": "reused", "side": role, "steps": steps[:64]},
        experiment=f"compared each prediction with the one of the step before: at those steps the {role}'s is bit for bit the same, "
                   "although its input is another",
        fix=f"switch the step cache off in the {role}, or declare it (declares: {{cache: ...}})", covers=covers)  # fmt: skip


def _repeats(lab, role: str, place, own: torch.Tensor) -> bool:
    """Is what a side returned at a place what it returned one or more steps earlier, with nothing else in between?

    For either branch of guidance: a cache may mix them up. In one step both may be the same for other reasons.
    """
    for back in range(1, place.step + 1):
        earlier = [dataclasses.replace(place, step=place.step - back, probe=probe, branch=branch) for probe, branch in
                   ((place.probe, place.branch), ("noise_pred_text", "cond"), ("noise_pred_uncond", "uncond"))]  # fmt: skip
        values = [lab.own_value(role, p) for p in earlier]
        if values[0] is None or values[0].shape != own.shape:
            return False
        if any(value is not None and torch.equal(value, own) for value in values):
            return bool(own.any())
        if back > 4:
            return False
    return False
