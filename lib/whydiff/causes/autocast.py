"""Does one side run inside an autocast context? The other side, run inside one, must then make the very same values."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share

LEAST, MOST = 1e-4, 0.2  # relative differences that rounding to 16 bit on the way through a network can cost
TYPES = (torch.bfloat16, torch.float16)
MADE_BY_MODULES = {"prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds", "image_latents",
                   "noise_pred_text", "noise_pred_uncond", "decoded"}  # fmt: skip


def explain(finding: Finding, lab) -> list[Explanation]:
    """`ambient-autocast`: a side's own run on the same inputs inside autocast reproduces the other side at every place."""
    if finding.place not in finding.candidate or not LEAST <= (finding.difference or 0.0) <= MOST:
        return []
    for role in ("reference", "candidate"):
        if lab.sides[role] is None or not lab.sides[role].components:
            continue
        target, own = (finding.candidate, finding.reference) if role == "reference" else (finding.reference, finding.candidate)
        for dtype in TYPES:
            trace = lab.autocast(role, dtype)
            if trace is None or any(p not in trace or trace[p].shape != target[p].shape for p in target):
                continue
            if not all(lab.closes(finding, target[p], trace[p]) for p in target):
                continue
            other = "candidate" if role == "reference" else "reference"
            word = str(dtype).removeprefix("torch.")
            lab.named_dtypes.append((dtype, "everywhere"))
            return [Explanation(
                id="ambient-autocast", stage="state_leakage", equivalent=["undeclared-dtype"], departs=other,
                statement=f"the {other} runs inside autocast to {word}; the {role} does not",
                relation={"kind": "autocast", "side": other, "dtype": word},
                explained=min(explained_share(target[p], own[p], trace[p]) for p in target),
                experiment=f"ran the {role} on the same inputs inside torch.autocast to {word}: it makes the {other}'s {finding.probe}",
                fix=f"call the {other} outside of autocast, or disable it inside with torch.autocast(enabled=False)",
                covers=MADE_BY_MODULES)]  # fmt: skip
    return []
