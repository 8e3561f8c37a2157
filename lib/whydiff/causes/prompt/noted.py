"""Two recordings whose embeddings differ: what their notes of the text encoders say (`evidence/recording/encoder_notes.py`)."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import layers
from whydiff.causes.prompt.encoder import OTHER
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.recording.encoder_notes import projected

CLOSE = 2e-5  # of projections: nine digits of float32 values, summed otherwise
MOST = 0.05  # with a floor above this, layers that resemble each other could be taken for one another
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def explain(finding: Finding, lab) -> list[Explanation]:
    """Same encoders, other layers; or encoders that were given another mask, another epsilon or another type."""
    if lab.patient is not None or finding.place not in finding.candidate:
        return []
    calls = {role: noted(lab.traces[role]) for role in OTHER}
    if not calls["reference"] or [_key(c) for c in calls["reference"]] != [_key(c) for c in calls["candidate"]]:
        return []
    pairs = list(zip(calls["reference"], calls["candidate"]))
    limit = max(CLOSE, STANDS_OUT * finding.floor)
    if limit > MOST:
        return []
    apart = [pair for pair in pairs if not _same(pair, limit)]
    if not apart:
        return _layers(finding, calls, limit)
    for experiment in (_epsilon, _kept, _precision, _mask):
        told = [experiment(finding, *pair, limit) for pair in apart]
        if None not in told:
            return told[:1]
    return []


def noted(trace) -> list[dict]:
    """A recording's notes of its encoders' calls; none where they are not as they should be."""
    held = trace.producer.get("encoders")
    keys = {"component", "ids", "tokens", "states", "dtypes", "eps"}
    return held if isinstance(held, list) and all(isinstance(c, dict) and keys <= set(c) for c in held) else []


def _key(call: dict) -> tuple:
    return call["component"], call["ids"], len(call["states"])


def _distance(a, b) -> float:
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (a, b))
    return float((a - b).norm() / a.norm().clamp_min(1e-30)) if a.shape == b.shape else float("inf")


def _same(pair, limit: float) -> bool:
    return all(_distance(a, b) <= limit for a, b in zip(pair[0]["states"], pair[1]["states"]))


def _layers(finding: Finding, calls: dict, limit: float) -> list[Explanation]:
    """Both embeddings are looked for among the noted states: from which layers is each made?"""
    if finding.reference[finding.place].dim() != 3:
        return []
    found = {role: _pieces(getattr(finding, role)[finding.place], calls[role], limit) for role in OTHER}
    if not all(found.values()) or [p.where for p in found["reference"]] != [p.where for p in found["candidate"]]:
        return []
    blocks = {c["component"]: len(c["states"]) - 1 for c in calls["reference"]}
    made = layers.told(finding, "reference", found, blocks, 1.0)
    if made is None:
        return []
    said = (f"projected both embeddings and looked for them among the noted hidden states of {made.relation['component']}, which agree between "
            "the sides, with and without the final norm: each is found there")  # fmt: skip
    return [dataclasses.replace(made, experiment=said)]


def _pieces(target: torch.Tensor, calls: list[dict], limit: float) -> list[layers.Piece]:
    """The noted states that the channels of `target` (B, L, W) are made of, side by side; empty where some are not found."""
    widths = sorted({w for w in range(1, target.shape[2] + 1) if target.shape[2] % w == 0 and target.shape[2] // w <= 8}, reverse=True)
    for width in widths:
        found = [_piece(target[:1, :, column : column + width], calls, column, limit) for column in range(0, target.shape[2], width)]
        if None not in found:
            return found
    return []


def _piece(block: torch.Tensor, calls: list[dict], column: int, limit: float) -> layers.Piece | None:
    rows = projected(block[0])
    for call in calls:
        for normed, states in ((False, call["states"]), (True, call.get("normed") or [])):
            for layer, state in enumerate(states):
                for sample in state:
                    if _stands_in(torch.tensor(sample, dtype=torch.float64), call["tokens"], rows, limit):
                        return layers.Piece(call["component"], layer, normed, 0, column, block)
    return None


def _stands_in(sample: torch.Tensor, tokens: list[int], rows: torch.Tensor, limit: float) -> bool:
    """Do at least two noted tokens, and all that fall on rows that are not zero, lie there in a row of one offset?"""
    for crop in range(1 - len(rows), max(tokens) + 1):
        held = [i for i, t in enumerate(tokens) if 0 <= t - crop < len(rows) and bool(rows[t - crop].any())]
        if len(held) < 2 or (crop < 0 and len(held) < len(tokens)):
            continue
        at = rows[[tokens[i] - crop for i in held]]
        if float((at - sample[held]).norm()) <= limit * float(sample[held].norm()) and len({tuple(r) for r in at.tolist()}) > 1:
            return True
    return False


def _epsilon(finding: Finding, mine: dict, theirs: dict, limit: float) -> Explanation | None:
    """`text-encoder-norm-eps`: the first norm's outputs are those of two epsilons, for the noted variances."""
    a, b = mine.get("first_norm"), theirs.get("first_norm")
    if not a or not b or a["eps"] == b["eps"] or _distance(a["before"], b["before"]) > limit:
        return None
    after = [torch.tensor(n["after"], dtype=torch.float64) for n in (a, b)]
    for key in ("variance", "square"):
        spread = torch.tensor(a[key], dtype=torch.float64)[..., None]
        made = after[0] * ((spread + a["eps"]) / (spread + b["eps"])).sqrt()
        gap = float((after[0] - after[1]).norm())
        if gap > limit * float(after[0].norm()) and float((made - after[1]).norm()) <= max(1e-3 * gap, limit * float(after[1].norm())):
            return Explanation(
                id="text-encoder-norm-eps", departs="unknown", explained=1.0, module=mine["component"],
                statement=f"the norms of the candidate's {mine['component']} have the epsilon {b['eps']:g}, the reference's {a['eps']:g}",
                relation={"kind": "epsilon", "component": mine["component"], "reference": a["eps"], "candidate": b["eps"]},
                experiment="computed the reference's first norm again with the candidate's epsilon, from the noted variances of equal inputs: "
                           "it puts out what the candidate's does", fix="use the checkpoint's epsilon on both sides")  # fmt: skip
    return None


def _kept(finding: Finding, mine: dict, theirs: dict, limit: float) -> Explanation | None:
    """`fp32-exempt-modules-lost`: encoders of one half type, of which one keeps some modules in float32."""
    for role, own, other in (("candidate", theirs, mine), ("reference", mine, theirs)):
        kept = other["dtypes"].get("float32")
        word = next((w for w in HALF if list(own["dtypes"]) == [w] and w in other["dtypes"]), None)
        if not kept or word is None or _distance(mine["states"][0], theirs["states"][0]) > max(limit, torch.finfo(HALF[word]).eps):
            continue
        values = getattr(finding, role)[finding.place]
        return Explanation(
            id="fp32-exempt-modules-lost", departs=role, explained=1.0, module=own["component"],
            equivalent=[] if bool(values.isfinite().all()) else ["text-encoder-nonfinite"],
            statement=f"the modules {', '.join(kept)} of the {role}'s {own['component']} are {word}, which the other side keeps in float32",
            relation={"kind": "dtype", "names": kept, role: word, OTHER[role]: "float32"},
            experiment=f"compared the noted types and hidden states of {own['component']}: the same {word} elsewhere and the same states before "
                       f"the first block; behind it they differ, and {finding.probe} with them",
            fix=f"load the {role}'s {own['component']} in {word} with from_pretrained(dtype=...), which keeps {', '.join(kept)} in float32")
    return None


def _precision(finding: Finding, mine: dict, theirs: dict, limit: float) -> Explanation | None:
    """`text-encoder-precision`: one type for the whole encoder, another on the other side, and no more than its rounding apart."""
    words = [list(call["dtypes"]) for call in (mine, theirs)]
    half = [w for held in words for w in held if w in HALF]
    if words[0] == words[1] or any(len(held) != 1 for held in words) or not half or finding.difference is None:
        return None
    unit = max(torch.finfo(HALF[w]).eps for w in half)
    if finding.difference > 4 * unit * len(mine["states"]) or _distance(mine["states"][0], theirs["states"][0]) > unit:
        return None
    return Explanation(
        id="text-encoder-precision", departs="unknown", explained=1.0, module=mine["component"], equivalent=["undeclared-dtype"],
        statement=f"the candidate's {mine['component']} is {words[1][0]}, the reference's {words[0][0]}",
        relation={"kind": "dtype", "reference": words[0][0], "candidate": words[1][0]},
        experiment=f"compared the noted types and hidden states: they are {words[0][0]} and {words[1][0]}, and depart by "
                   f"{finding.difference:.2g}, as that type rounds", fix="run both text encoders in one type, or declare it")  # fmt: skip


def _mask(finding: Finding, mine: dict, theirs: dict, limit: float) -> Explanation | None:
    """`encoder-mask-passed-or-not`: equal states before the first block, where only one side's mask leaves tokens out."""
    masked = {"reference": bool(mine.get("masked")), "candidate": bool(theirs.get("masked"))}
    alike = mine["dtypes"] == theirs["dtypes"] and mine["eps"] == theirs["eps"]
    if masked["reference"] == masked["candidate"] or not alike or _distance(mine["states"][0], theirs["states"][0]) > limit:
        return None
    one = "reference" if masked["reference"] else "candidate"
    count = (mine if one == "reference" else theirs)["masked"]
    return Explanation(
        id="encoder-mask-passed-or-not", departs="unknown", explained=1.0, module=mine["component"],
        statement=f"the {one}'s {mine['component']} masks {count} tokens of padding, the {OTHER[one]}'s attends to all",
        relation={"kind": "attention_mask", "encoder": mine["component"], **masked},
        experiment="compared the notes of both encoders: the same ids, types and epsilons, and the same states before the first block; behind it, "
                   "where the mask acts, they differ", fix="pass the attention mask to both text encoders, or to neither")  # fmt: skip
