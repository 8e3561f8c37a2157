"""The prompt's embeddings beside the negative prompt's: zeros in place of an encoded text, and branches that are exchanged."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.places import Place

POOLED = ("pooled_projections", "text_embeds", "pooled_prompt_embeds")


def zeros(finding: Finding, lab) -> list[Explanation]:
    """`negative-zeros-vs-empty`: the negative prompt's embedding is zero everywhere on one side alone."""
    negative = finding.probe.startswith("negative_") or all(p.branch == "uncond" for p in finding.places)
    if not negative:
        return []
    for side, other in (("candidate", "reference"), ("reference", "candidate")):
        values = [(getattr(finding, side)[p], getattr(finding, other)[p]) for p in finding.places if p in finding.candidate]
        if values and all(not mine.any() and theirs.any() for mine, theirs in values):
            break
    else:
        return []
    text = _negative(lab)
    said = f" (the negative prompt is {text!r})" if text is not None else ""
    return [Explanation(
        id="negative-zeros-vs-empty", stage="guidance", departs="unknown", explained=1.0,
        statement=f"the {side}'s {finding.probe} is zero everywhere, the {other} encodes the negative prompt{said}",
        relation={"kind": "zeroed", "side": side},
        experiment=f"every value of the {side}'s is 0, and none of the {other}'s row is: its values were put there and the difference is gone",
        fix=f"use the {other}'s unconditional embedding in the {side}: an encoded empty prompt is not a tensor of zeros",
        covers=_also_zero(finding, lab, side))]  # fmt: skip


def _negative(lab):
    from whydiff.causes.prompt.texts import given

    return given(lab, "reference", "negative_prompt")


def _also_zero(finding: Finding, lab, side: str) -> set[str]:
    """The pooled embedding of the negative prompt is replaced by the same line of code."""
    found = set()
    for probe in ("negative_prompt_embeds", "negative_pooled_prompt_embeds"):
        value = lab.own_value(side, Place(probe))
        if probe != finding.probe and value is not None and not value.any():
            found.add(probe)
    return found


def exchanged(finding: Finding, lab) -> list[Explanation]:
    """`pooled-order-swapped`, `cond-uncond-swapped`: what one branch receives is the other branch's on the other side."""
    argument = finding.probe.rpartition("/")[2]
    pooled = argument in POOLED or "pooled" in finding.probe
    pairs, covers = _branches(finding, lab)
    if not pairs or not all(_crossed(finding, lab, *pair) for pair in pairs):
        return []
    what = "pooled embeddings" if pooled else "prompt embeddings"
    if not pooled and covers:
        covers |= {"pooled_prompt_embeds", "negative_pooled_prompt_embeds"}
    return [Explanation(
        id="pooled-order-swapped" if pooled else "cond-uncond-swapped", stage="guidance", departs="unknown", explained=1.0,
        statement=f"the {what} of the conditional and the unconditional branch are exchanged between candidate and reference",
        relation={"kind": "branches_exchanged", "argument": argument},
        experiment=f"exchanged the candidate's {finding.probe} between the branches: both equal the reference's",
        fix=f"stack the {what} in the same order as the other inputs: [negative, positive] on both sides", covers=covers)]  # fmt: skip


def _branches(finding: Finding, lab) -> tuple[list[tuple[torch.Tensor, ...]], set[str]]:
    """(reference cond, reference uncond, candidate cond, candidate uncond) wherever the finding has them."""
    if not finding.probe.startswith("model_input"):
        positive = finding.probe.removeprefix("negative_")
        names = [Place(positive), Place(f"negative_{positive}")]
        values = [lab.traces["reference"].get(p.probe) for p in names] + [lab.own_value("candidate", p) for p in names]
        return ([tuple(values)] if not any(v is None for v in values) else []), {p.probe for p in names} - {finding.probe}
    found = []
    for place in finding.places:
        if place.branch == "cond":
            other = dataclasses.replace(place, branch="uncond")
            values = [getattr(finding, role).get(p) for role in ("reference", "candidate") for p in (place, other)]
            if any(v is None for v in values):
                return [], set()
            found.append(tuple(values))
        elif place.branch is None:
            a, b = finding.reference[place], finding.candidate[place]
            n = a.shape[0] // 2
            if a.dim() < 2 or a.shape[0] % 2 or not n:
                return [], set()
            found.append((a[:n], a[n:], b[:n], b[n:]))
    return found, set()


def _crossed(finding: Finding, lab, cond, uncond, cond_candidate, uncond_candidate) -> bool:
    if cond.shape != uncond_candidate.shape or uncond.shape != cond_candidate.shape:
        return False
    apart = not lab.closes(finding, cond, uncond) if cond.shape == uncond.shape else True
    return apart and lab.closes(finding, cond, uncond_candidate) and lab.closes(finding, uncond, cond_candidate)
