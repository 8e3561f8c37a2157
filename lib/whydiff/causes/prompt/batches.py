"""Does what one prompt is encoded to depend on the other prompts in its batch?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import texts, tokens
from whydiff.causes.prompt.encoder import OTHER
from whydiff.measure.compare import relative_l2
from whydiff.places import Place


def explain(finding: Finding, lab) -> list[Explanation]:
    """`encoder-batch-padding-dependence`: with all prompts of the batch alike the sides agree, with these prompts they do not.

    Prompts that are alike have one length, so that none is padded to another's; the side whose embedding of a prompt
    changes with its neighbours is the one that departs.
    """
    if None in lab.sides.values() or finding.probe.startswith("negative_"):
        return []
    requests, place = _alike(lab), finding.place
    alike: dict[str, list[torch.Tensor]] = {"reference": [], "candidate": []}
    for row, request in requests:
        made = {}
        for role, side in lab.sides.items():
            changes = {side.spelling(key): value for key, value in request.items()}
            if None in changes:
                return []
            made[role] = texts.run_until(lab, role, finding.places[-1], changes=changes)
        if any(p not in trace for p in finding.places for trace in made.values()):
            return []
        pairs = [(made["reference"][p], made["candidate"][p]) for p in finding.places]
        if not all(a.shape == b.shape and lab.closes(finding, a, b) for a, b in pairs):
            return []
        for role, trace in made.items():
            alike[role].append(trace[place][row])
    changed = {role: max((_apart(lone, getattr(finding, role)[place][row]) for (row, _), lone in zip(requests, lones)), default=0.0)
               for role, lones in alike.items()}  # fmt: skip
    side = max(changed, key=changed.get)
    mixed = [getattr(finding, side)[place][row] for row, _ in requests]
    # A side that encodes one prompt in place of another does not pad it otherwise.
    mistaken = any(lab.closes(finding, *_cut(lone, value)) for i, lone in enumerate(alike[side]) for j, value in enumerate(mixed) if i != j)
    other = [_cut(lone, getattr(finding, OTHER[side])[place][row]) for (row, _), lone in zip(requests, alike[OTHER[side]])]
    if not changed[side] > 0 or mistaken or not all(lab.closes(finding, *pair) for pair in other):
        return []
    return [Explanation(
        id="encoder-batch-padding-dependence", departs=side, explained=1.0, equivalent=["encoder-mask-passed-or-not"],
        statement=f"the {side}'s {finding.probe} of a prompt depends on the lengths of the other prompts in its batch",
        relation={"kind": "batch", "prompts": len(requests), **{role: float(f"{value:.3g}") for role, value in changed.items()}},
        experiment=f"encoded {len(requests)} batches of prompts that are alike on both sides: candidate and reference agree; the {side}'s "
                   f"embedding of a prompt moves by {changed[side]:.2g} in the mixed batch, the {OTHER[side]}'s by {changed[OTHER[side]]:.2g}",
        fix=f"mask what the {side} pads shorter prompts with, or pad every prompt to one fixed length")]  # fmt: skip


def explain_rows(finding: Finding, lab) -> list[Explanation]:
    """The same, seen at token ids (B, L): one side pads a batch's prompts to the longest of them, the other to a fixed length.

    Where no side can be run, the embeddings of the prompt that fills its row must agree, and only those of the others differ.
    """
    if finding.probe != "input_ids" or finding.place in finding.candidate:
        return []
    ids = {role: lab.own_value(role, finding.place) for role in OTHER}
    if any(t is None or t.dim() != 2 or len(t) < 2 for t in ids.values()) or len(ids["reference"]) != len(ids["candidate"]):
        return []
    side = min(ids, key=lambda role: ids[role].shape[1])
    lengths = [len(_filled(row, long)) for row, long in zip(ids[side].tolist(), ids[OTHER[side]].tolist())]
    if 0 in lengths or max(lengths) != ids[side].shape[1] or min(lengths) == max(lengths):
        return []
    probe = Place("prompt_embeds")
    made = {role: lab.own_value(role, probe) for role in OTHER}
    if any(t is None for t in made.values()) or made["reference"].shape != made["candidate"].shape or len(made["reference"]) < len(lengths):
        return []
    floor = lab.floor.of_stage(probe, made["reference"])
    embeds = Finding("prompt_embeds", [probe], {probe: made["reference"]}, {probe: made["candidate"]}, None, floor)
    found = explain(embeds, lab) if None not in lab.sides.values() else _recorded(embeds, lab, side, lengths)
    for explanation in found:
        explanation.covers |= {finding.probe, "attention_mask", "prompt_embeds", "negative_prompt_embeds"}
    return found


def _filled(row: list[int], longer: list[int]) -> list[int]:
    """The ids of a row that the other side's row begins with, without what either is padded with; empty where they differ."""
    text = tokens.body(longer)
    return text if tokens.tail(longer) > 1 and row[: len(text)] == text and len(set(row[len(text) :])) <= 1 else []


def _recorded(embeds: Finding, lab, side: str, lengths: list[int]) -> list[Explanation]:
    ((mine, theirs),) = embeds.pairs
    full = [i for i, n in enumerate(lengths) if n == max(lengths)]
    short = [i for i, n in enumerate(lengths) if n < max(lengths)]
    near = [i for i in range(len(lengths)) if lab.closes(embeds, *_cut(mine[i][: lengths[i]], theirs[i][: lengths[i]]))]
    if near != full:
        return []
    return [Explanation(
        id="encoder-batch-padding-dependence", departs=side, explained=1.0, equivalent=["encoder-mask-passed-or-not"],
        statement=f"the {side} pads the prompts of a batch to the longest of them, {max(lengths)} tokens, and its {embeds.probe} of the shorter "
                  "ones depend on that",
        relation={"kind": "batch", "prompts": len(lengths), "tokens": lengths},
        experiment=f"left the padding out: the token ids agree; the embeddings of the {len(full)} prompt(s) that fill the {side}'s rows agree, "
                   f"those of the {len(short)} padded one(s) do not",
        fix=f"mask what the {side} pads shorter prompts with, or pad every prompt to one fixed length")]  # fmt: skip


def _cut(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two embeddings of one prompt, (L, D) each or (P,), in the rows that both have."""
    n = min(len(a), len(b)) if a.dim() > 1 else len(a)
    return a[:n], b[:n]


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return relative_l2(*_cut(a, b))


def _alike(lab) -> list[tuple[int, dict]]:
    """(row of the batch, call arguments) of requests in which every prompt of a batch is the same text."""
    prompt, negative = (texts.given(lab, "reference", name) for name in ("prompt", "negative_prompt"))
    if isinstance(prompt, list):
        if len({*prompt}) < 2:
            return []
        rows = [(i, {"prompt": [text] * len(prompt)}) for i, text in enumerate(prompt)]
        if isinstance(negative, list):
            rows = [(i, request | {"negative_prompt": [negative[i]] * len(prompt)}) for i, request in rows]
        return rows
    # Prompt and negative prompt may be one batch, too.
    return [(0, {"negative_prompt": prompt})] if isinstance(prompt, str) and negative is not None and prompt != negative else []
