"""From which token is the pooled embedding taken? One vector per prompt, looked for among the last hidden states."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt.encoder import Call, encoders, looked_into


def explain(finding: Finding, lab) -> list[Explanation]:
    """`pooled-token`: both pooled vectors are rows of the same last hidden state, but other rows."""
    place = finding.place
    mine, theirs = finding.reference[place], finding.candidate.get(place)
    if theirs is None or mine.dim() != 2 or mine.shape != theirs.shape:
        return []
    for role in ("reference", "candidate"):
        if lab.sides[role] is None:
            continue
        for call in looked_into(lab, role, finding):
            for what, rows in _vectors(call, encoders(lab.sides[role])[call.component]):
                found = [_row(finding, lab, t, rows) for t in (mine, theirs)]
                if None not in found and found[0] != found[1]:
                    return [Explanation(
                        id="pooled-token", departs="unknown", explained=1.0,
                        statement=f"candidate's {finding.probe} is the {what} of token {found[1]}, the reference's that of token {found[0]}",
                        relation={"kind": "pooled_token", "component": call.component, "reference": found[0], "candidate": found[1]},
                        experiment=f"looked for both vectors among the {what}s that the {role}'s {call.component} makes: found at these tokens",
                        fix="pool at the token the checkpoint was trained with (CLIP: the first end-of-text token)")]  # fmt: skip
    return []


def _vectors(call: Call, root) -> list[tuple[str, torch.Tensor]]:
    """(what it is, (B, L, P)) for the last hidden state, normed, and projected where the encoder has a projection."""
    last = call.normed(-1) if call.norm is not None else None
    found = [("last hidden state", call.states[-1])] + ([("normed last hidden state", last)] if last is not None else [])
    projection = getattr(root, "text_projection", None)
    if isinstance(projection, torch.nn.Linear) and last is not None and projection.in_features == last.shape[-1]:
        with torch.no_grad():
            found.append(("projected hidden state", projection(last.to(projection.weight.device)).cpu()))
    return found


def _row(finding: Finding, lab, target: torch.Tensor, rows: torch.Tensor) -> list[int] | None:
    """For each vector of `target` (B, P) the token whose row it is; None where one is not found."""
    if rows.shape[-1] != target.shape[-1] or rows.shape[0] != target.shape[0]:
        return None
    found = []
    for vector, tokens in zip(target, rows.to(target.dtype)):
        at = next((i for i, row in enumerate(tokens) if lab.closes(finding, vector, row)), None)
        if at is None:
            return None
        found.append(at)
    return found
