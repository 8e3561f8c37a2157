"""Does each text encoder, and the network, mask the padding? A live encoder is run with the other rule: does it make the other side's embeddings?"""

from __future__ import annotations

import contextlib
import inspect
import re

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.causes.prompt.encoder import OTHER, encode
from whydiff.evidence.recording.diffusers_probes import as_passed
from whydiff.places import Place

# What encoders call token ids, and what they call the argument that says which of them are attended to.
IDS = r"^(input_|token_)?ids$|^tokens$"
MASK = r"(?i)attention_?mask|attend|pad(ding)?_mask|^mask$"


def explain(finding: Finding, lab) -> list[Explanation]:
    """Same ids, other embeddings: does masking the padding (or not) in a text encoder of either live side explain it?"""
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        if side is None:
            continue
        for name, names in _maskable(side).items():
            for masked in (True, False):
                found = _try_mask(finding, lab, role, name, names, masked)
                if found is not None:
                    return [found]
    return []


def _maskable(side) -> dict[str, tuple[str, str]]:
    """{component: (its argument for token ids, its argument for their mask)}."""
    found = {}
    for name, module in side.components.items():
        if isinstance(module, torch.nn.Module):
            with contextlib.suppress(TypeError, ValueError):
                names = list(inspect.signature(module.forward).parameters)
                ids, mask = (next((n for n in names if re.search(pattern, n)), None) for pattern in (IDS, MASK))
                if ids and mask:
                    found[name] = (ids, mask)
    return found


def _try_mask(finding: Finding, lab, role: str, name: str, names: tuple[str, str], masked: bool) -> Explanation | None:
    """Run one side with its padding masked (or not masked) in one encoder: does it now make the other side's embeddings?"""
    encoder, (of_ids, of_mask) = lab.sides[role].components[name], names
    pad = _padding_id(lab.sides[role], name, encoder)
    signature = inspect.signature(encoder.forward)
    before = []

    def pre(_module, args, kwargs):
        bound = signature.bind_partial(*args, **kwargs)
        ids, mask = bound.arguments.get(of_ids), bound.arguments.get(of_mask)
        if ids is not None:
            before.append(mask is not None and not bool(mask.all()))
            kept = ids != pad if masked else torch.ones_like(ids, dtype=torch.bool)
            bound.arguments[of_mask] = kept.long() if of_mask == "attention_mask" else kept  # as transformers passes it, or plainly
        if of_mask not in list(signature.parameters)[: len(args)]:
            kwargs = {of_mask: None} | kwargs
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
        fix=f"{'pass' if masks['reference'] else 'do not pass'} {of_mask} to {name} in the candidate")  # fmt: skip


def _padding_id(side, name: str, encoder) -> int:
    tokenizer = side.components.get(name.replace("text_encoder", "tokenizer")) or getattr(
        side.subject, name.replace("text_encoder", "tokenizer"), None)  # fmt: skip
    found = next((getattr(tokenizer, key) for key in ("pad_token_id", "pad_id") if getattr(tokenizer, key, None) is not None), None)
    if found is None:
        found = getattr(getattr(encoder, "config", None), "pad_token_id", None)
    return 0 if found is None else int(found)


def of_network(finding: Finding, lab) -> list[Explanation]:
    """A mask that a network receives: one side's keeps every token, or keeps what the other's leaves out."""
    argument = finding.probe.rpartition("/")[2]
    if "mask" not in argument or any(place not in finding.candidate for place in finding.places):
        return []
    pairs = [tuple(_kept(t) for t in pair) for pair in finding.pairs]
    if any(kept is None for pair in pairs for kept in pair):
        return []
    experiment = f"compared what the two masks keep at {len(pairs)} places"
    if all(torch.equal(mine, ~theirs) for mine, theirs in pairs):
        return [Explanation(
            id="attention-mask-inverted", stage="model_forward", departs="unknown", explained=1.0,
            statement=f"{argument} of the candidate's network keeps exactly the tokens that the reference's leaves out",
            relation={"kind": "mask_inverted", "argument": argument}, experiment=f"{experiment}: each is the other, inverted",
            fix=f"hand {argument} over with one meaning on both sides (1 for tokens that are kept)")]  # fmt: skip
    for role, other, index in (("candidate", "reference", 1), ("reference", "candidate", 0)):
        if all(pair[index].all() and not pair[1 - index].all() for pair in pairs):
            left_out, of = int((~pairs[0][1 - index]).sum()), pairs[0][0].numel()
            return [Explanation(
                id="attention-mask-dropped", stage="model_forward", departs="unknown", explained=1.0,
                equivalent=["encoder-mask-passed-or-not"],
                statement=f"the {role}'s network receives {'an' if argument[0] in 'aeiou' else 'a'} {argument} that keeps every token; "
                          f"the {other}'s leaves out {left_out} of {of}{_tokenizers(finding, lab, other)}",
                relation={"kind": "mask_of_ones", "argument": argument, "side": role, "left_out": left_out, "of": of},
                experiment=f"{experiment}: with every token kept, the {other}'s equals the {role}'s",
                fix=f"hand the tokenizer's mask to the network as {argument} on both sides, or on neither, as the model was trained")]  # fmt: skip
    return []


def _kept(mask: torch.Tensor) -> torch.Tensor | None:
    """Which tokens a mask keeps: of booleans, of ones and zeros, or of zeros and large negative numbers that are added."""
    if mask.dtype == torch.bool:
        return mask
    values = mask.double()
    if bool(((values == 0) | (values == 1)).all()):
        # Zeros alone are what is added where nothing is left out, or a mask that keeps nothing; floats are added.
        return values == 0 if mask.is_floating_point() and not values.any() else values == 1
    return values == 0 if bool(((values == 0) | (values <= -1e3)).all()) else None


def _tokenizers(finding: Finding, lab, role: str) -> str:
    """Words for a mask that is the tokenizer's own."""
    given, own = lab.own_value(role, finding.place), lab.own_value(role, Place("attention_mask"))
    same = given is not None and own is not None and given.numel() == own.numel() and torch.equal(
        given.flatten().bool(), own.flatten().bool())  # fmt: skip
    return ", as its tokenizer's mask does" if same else ""
