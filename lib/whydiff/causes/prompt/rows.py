"""Which rows of an embedding differ, and how? Works on recorded tensors alone: (B, L, D), one row per token."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share, number
from whydiff.causes.prompt import layers, tokens
from whydiff.causes.prompt.follow import lengthened
from whydiff.measure.relations import find_relation

CUT = ("long-prompt-truncated", "max-sequence-length")


def explain(finding: Finding, lab) -> list[Explanation]:
    """Equal shapes: rows that are zero on one side, or moved along the sequence."""
    return padding_zeroed(finding, lab) or shifted(finding, lab)


def padding_zeroed(finding: Finding, lab) -> list[Explanation]:
    """`padded-rows-zeroed-wrongly`, `padded-rows-not-zeroed`: the last rows are zero on one side, the others equal."""
    zero_sides, shares, counts = set(), [], []
    for place in finding.places:
        a, b = finding.reference[place], finding.candidate[place]
        if a.dim() < 3 or not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
            return []
        zero = {"reference": ~a.any(-1), "candidate": ~b.any(-1)}
        only = {role: zero[role] & ~zero[other] for role, other in (("reference", "candidate"), ("candidate", "reference"))}
        side = next((role for role in only if only[role].any()), None)
        if side is None or any(only[r].any() for r in only if r != side) or zero[side].all(-1).any():
            return []
        # Padding stands at one end: zero rows in the middle of a text are something else.
        if not all(_at_one_end(row) for row in zero[side].reshape(-1, a.shape[-2])):
            return []
        repaired = torch.where(only[side][..., None], torch.zeros_like(a), a) if side == "candidate" else a
        target = b if side == "candidate" else torch.where(only[side][..., None], torch.zeros_like(b), b)
        if not lab.closes(finding, target, repaired) or _reaches_into_text(lab, zero[side]):
            return []
        zero_sides.add(side)
        shares.append(explained_share(b, a, repaired) if side == "candidate" else explained_share(a, b, target))
        counts.append(int(only[side].sum()))
    if len(zero_sides) != 1:
        return []
    side = zero_sides.pop()
    id_, other = "padded-rows-zeroed-wrongly", "padded-rows-not-zeroed"
    if side == "reference":
        id_, other = other, id_
    return [Explanation(
        id=id_, equivalent=[other], stage="prompt_encoding", departs="unknown", explained=min(shares),
        statement=f"the last {counts[0]} rows of {finding.probe} are zero on the {side}'s side alone; all other rows agree",
        relation={"kind": "zero_rows", "side": side, "rows": counts[0]},
        experiment=f"set the same rows to zero on the other side: {finding.probe} agrees",
        fix=f"the {side} multiplies its embeddings by the attention mask (or trims and pads them with zeros), the other side passes "
            "the encoder's output for padding: do as the model was trained")]  # fmt: skip


def _at_one_end(zero: torch.Tensor) -> bool:
    """(L,) of bool: true values in one run that reaches an end, or none."""
    n = int(zero.sum())
    return n == 0 or bool(zero[-n:].all()) or bool(zero[:n].all())


def _reaches_into_text(lab, zero: torch.Tensor) -> bool:
    """Are rows zero that hold words? Asked of recorded ids with as many tokens as there are rows, or of two encoders' ids that
    have as many together: the later stands at the end. Unknown counts as no.

    The text's end token may be what its rows are padded with; it is not counted as a word.
    """
    rows, trace = zero.reshape(-1, zero.shape[-1]), lab.traces["reference"]
    count, length = rows.shape
    held = [trace[p] for p in trace if p.probe.startswith("input_ids") and trace[p].dim() == 2 and len(trace[p]) == count]
    lengths = {ids.shape[1] for ids in held}
    ids = [h for h in held if h.shape[1] == length] or [h for h in held if length - h.shape[1] in lengths]
    zeros = rows.sum(1).tolist()
    return bool(ids) and not any(all(n <= len(row) - len(tokens.body(row)) for n, row in zip(zeros, h.tolist())) for h in ids)


def shifted(finding: Finding, lab) -> list[Explanation]:
    """`template-prefix-not-cropped`, at one length: the same rows, k further down."""
    a, b = finding.reference[finding.place], finding.candidate[finding.place]
    if a.dim() != 3 or len(finding.places) > 1 and finding.place.step is None:
        return []
    length = a.shape[1]
    for side, (first, late) in (("candidate", (a, b)), ("reference", (b, a))):
        for k in _offsets(first, late):
            n = length - k
            part = first[:, :n]
            # Rows that come round at the other end were rolled, not cropped.
            rolled = lab.closes(finding, first, late.roll(-k, 1))
            if n >= 2 and not rolled and _telling(part) and lab.closes(finding, part, late[:, k:]):
                return [_not_cropped(finding, lab, side, k)]
    return []


def explain_shapes(finding: Finding, lab) -> list[Explanation]:
    """Other numbers of rows: rows in front (`template-prefix-not-cropped`), or behind: a longer text, or more chunks of it."""
    a = finding.reference[finding.place]
    b = lab.own_value("candidate", finding.place)
    if b is None or a.dim() != 3 or b.dim() != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[2] or a.shape[1] == b.shape[1]:
        return []
    long_side, short, long = ("candidate", a, b) if b.shape[1] > a.shape[1] else ("reference", b, a)
    n = short.shape[1]
    filled = int((~short.any(-1)).all(0).logical_not().nonzero()[-1]) + 1 if short.any() else 0
    if n < 2 or not filled or not _telling(short[:, :filled]):
        return []
    for k in range(long.shape[1] - n + 1):
        if not lab.closes(finding, short[:, :1], long[:, k : k + 1]) or not lab.closes(finding, short[:, :filled], long[:, k : k + filled]):
            continue
        if k:
            return [_not_cropped(finding, lab, long_side, k)]
        return [_longer(finding, lab, long_side, short, long)]
    return []


def _offsets(first: torch.Tensor, late: torch.Tensor) -> list[int]:
    """Where the first row of `first` may stand in `late`: the rows next to it in value, up to half of the sequence."""
    distance = (late[0].double() - first[0, :1].double()).norm(dim=1)[: max(2, 3 * late.shape[1] // 4)]
    return [int(k) for k in distance.argsort()[:2] if k > 0]


def _telling(rows: torch.Tensor) -> bool:
    """Are these at least two different rows? Equal rows fit each other wherever they are put."""
    return rows.shape[1] >= 2 and bool((rows[:, 1:] != rows[:, :1]).any())


def _not_cropped(finding: Finding, lab, side: str, k: int) -> Explanation:
    rows = f"{k} row" + ("s" if k > 1 else "")
    return Explanation(
        id="template-prefix-not-cropped", stage="prompt_encoding", departs="unknown", explained=1.0,
        statement=f"the {side}'s {finding.probe} is the other side's preceded by {rows}",
        relation={"kind": "shifted_rows", "rows": k, "side": side},
        experiment=f"left the {side}'s first {rows} out: the rows agree",
        fix=f"cut the template's rows from the embeddings alike: the {side} starts {rows} earlier than the other side",
        covers={finding.probe, *lengthened(lab)} | ({f"negative_{finding.probe}"} if finding.probe == "prompt_embeds" else set()))  # fmt: skip


def _longer(finding: Finding, lab, long_side: str, short: torch.Tensor, long: torch.Tensor) -> Explanation:
    """The longer side has further rows behind the same ones."""
    n, total, negative = short.shape[1], long.shape[1], finding.probe.startswith("negative_")
    lengths = {"reference": long, "candidate": short} if long_side == "reference" else {"reference": short, "candidate": long}
    lengths = {role: t.shape[1] for role, t in lengths.items()}
    empty = not long[:, n:].any() or bool((long[:, n:] == long[:, -1:]).all())
    if negative and _agree_in_length(lab, finding.probe.removeprefix("negative_")):
        image = any(lab.traces[role].at(probe) for role in ("reference", "candidate")
                    for probe in ("init_image", "image_latents", "image_embeds"))  # fmt: skip
        names = ("chunk-count-pos-neg", "negative-image-dropped")
        id_, other = names if total % n == 0 or not image else names[::-1]
        words, stage = "the prompt's have one length", "guidance" if id_ == "negative-image-dropped" else "prompt_encoding"
        fix = "pad the negative prompt to as many chunks as the prompt" if stage == "prompt_encoding" else "encode the negative prompt with the image"
        equivalent = [other] if image else []
    else:
        id_, other = CUT[::-1] if empty or total % n else CUT
        words, stage, equivalent = "further rows " + ("are padding" if empty else "hold more of the text"), "prompt_encoding", [other]
        fix = "use one maximal length, and cut or join long prompts alike"
    return Explanation(
        id=id_, equivalent=equivalent, stage=stage, departs="unknown", explained=1.0,
        statement=f"candidate's {finding.probe} has {lengths['candidate']} rows, the reference's {lengths['reference']}, of which the first "
                  f"{n} agree; {words}",
        relation={"kind": "rows", **lengths}, experiment=f"left the {long_side}'s rows from {n} on out: the others agree", fix=fix,
        covers={finding.probe, *lengthened(lab)} | ({f"negative_{finding.probe}"} if finding.probe == "prompt_embeds" else set()))  # fmt: skip


def _agree_in_length(lab, probe: str) -> bool:
    seen = [lab.traces[role].get(probe) for role in ("reference", "candidate")]
    return None not in [s if s is None else 0 for s in seen] and seen[0].shape == seen[1].shape


def rescaled(finding: Finding, lab) -> list[Explanation]:
    """`prompt-embeds-scaled`: one factor for all values, and `prompt-embeds-normalised`: one side has vectors of one length."""
    if not layers.same_inside(finding, lab):
        return []  # the modules themselves make other values: the place to look is inside
    a, b = finding.stacked()
    relation = find_relation(a, b, finding.floor)
    if relation is not None and relation.kind in ("scale", "sign"):
        factor = relation.parameters["scale"]
        return [Explanation(
            id="prompt-embeds-scaled", stage="prompt_encoding", departs="unknown", explained=explained_share(b, a, a * factor),
            statement=f"candidate's {finding.probe} is {number(factor)} times the reference's", relation={"kind": "scale", "factor": factor},
            experiment=f"multiplied the reference's {finding.probe} by {number(factor)}: it is the candidate's",
            fix="scale the embeddings on both sides, or on neither")]  # fmt: skip
    for side, other in (("candidate", "reference"), ("reference", "candidate")):
        made = [(getattr(finding, side)[p], torch.nn.functional.normalize(getattr(finding, other)[p].double(), dim=-1)) for p in finding.places]
        if all(t.shape[-1] > 2 and lab.closes(finding, t, m.to(t.dtype)) for t, m in made):
            return [Explanation(
                id="prompt-embeds-normalised", stage="prompt_encoding", departs="unknown", explained=1.0,
                statement=f"the {side}'s {finding.probe} are the {other}'s divided by their length", relation={"kind": "normalised", "side": side},
                experiment=f"divided the {other}'s vectors by their length: they are the {side}'s",
                fix="normalise the embeddings on both sides, or on neither")]  # fmt: skip
    return []
