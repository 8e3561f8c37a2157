"""Does each text encoder mask its padding? A live encoder is run with the other rule: does it make the other side's embeddings?"""

from __future__ import annotations

import contextlib
import inspect

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.causes.prompt.encoder import OTHER, encode
from whydiff.evidence.diffusers_probes import as_passed


def explain(finding: Finding, lab) -> list[Explanation]:
    """Same ids, other embeddings: does masking the padding (or not) in a text encoder of either live side explain it?"""
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        if side is None:
            continue
        for name, encoder in _maskable(side).items():
            for masked in (True, False):
                found = _try_mask(finding, lab, role, name, encoder, masked)
                if found is not None:
                    return [found]
    return []


def _maskable(side) -> dict[str, torch.nn.Module]:
    found = {}
    for name, module in side.components.items():
        if isinstance(module, torch.nn.Module):
            with contextlib.suppress(TypeError, ValueError):
                if {"input_ids", "attention_mask"} <= set(inspect.signature(module.forward).parameters):
                    found[name] = module
    return found


def _try_mask(finding: Finding, lab, role: str, name: str, encoder, masked: bool) -> Explanation | None:
    """Run one side with its padding masked (or not masked) in one encoder: does it now make the other side's embeddings?"""
    pad = _padding_id(lab.sides[role], name, encoder)
    signature = inspect.signature(encoder.forward)
    before = []

    def pre(_module, args, kwargs):
        bound = signature.bind_partial(*args, **kwargs)
        ids, mask = bound.arguments.get("input_ids"), bound.arguments.get("attention_mask")
        if ids is not None:
            before.append(mask is not None and not bool(mask.all()))
            bound.arguments["attention_mask"] = (ids != pad).long() if masked else torch.ones_like(ids)
        if "attention_mask" not in list(signature.parameters)[: len(args)]:
            kwargs = {"attention_mask": None} | kwargs
        return as_passed(signature, bound.arguments, args, kwargs)

    handle = encoder.register_forward_pre_hook(pre, with_kwargs=True)
    try:
        again = encode(lab, role, finding)
    finally:
        handle.remove()
    if not before or before[0] == masked or finding.place not in again:
        return None
    mine, theirs = finding.reference[finding.place], finding.candidate[finding.place]
    target, own = (theirs, mine) if role == "reference" else (mine, theirs)
    if again[finding.place].shape != target.shape:
        return None
    share = explained_share(target, own, again[finding.place])
    if not lab.closes(finding, target, again[finding.place]):
        return None
    masks = {role: not masked, OTHER[role]: masked}
    words = {True: "masks its padding", False: "attends to its padding"}
    return Explanation(
        id="encoder-mask-passed-or-not",
        statement=f"candidate's {name} {words[masks['candidate']]}, the reference's {words[masks['reference']]}",
        relation={"kind": "attention_mask", "encoder": name, **masks}, explained=share,
        experiment=f"ran {role} with {name}'s padding {'masked' if masked else 'not masked'}: it makes the other side's {finding.probe}",
        fix=f"{'pass' if masks['reference'] else 'do not pass'} attention_mask to {name} in the candidate")  # fmt: skip


def _padding_id(side, name: str, encoder) -> int:
    tokenizer = side.components.get(name.replace("text_encoder", "tokenizer")) or getattr(
        side.subject, name.replace("text_encoder", "tokenizer"), None)  # fmt: skip
    found = getattr(tokenizer, "pad_token_id", None)
    if found is None:
        found = getattr(getattr(encoder, "config", None), "pad_token_id", None)
    return 0 if found is None else int(found)
