"""A whole module that works on one rank's part of the sequence after the other, as if each were all there is."""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch.utils._pytree import tree_map

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.variants_made import NotHere
from whydiff.causes.inside.variants_shards import ID, RANKS, pieces
from whydiff.evidence.recording.calls import tensors_in

OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """One side's module on parts of its inputs, put together, is what the other side puts out."""
    if not inside.can_run or inside.stage != "model_forward" or type(inside) is not Inside or inside.gap() == 0.0:
        return None
    for role in ("reference", "candidate"):
        call, target = inside.calls[role], tensors_in(inside.outputs()[OTHER[role]])
        received = tensors_in((call.args, call.kwargs))
        lengths = [t.shape[1] for t in received if t.dim() == 3 and t.is_floating_point()][:2]
        if not lengths or not any(True for _ in inside.modules[role].parameters()):
            continue
        length = max(lengths)
        for parts in RANKS:
            for local in (False, True):
                made = _in_parts(inside, role, length, parts, local)
                if made is not None and len(made) == len(target) and inside.closes(target, made):
                    return _named(inside, role, parts, local)
    return None


def _named(inside: Inside, role: str, parts: int, local: bool) -> Explanation:
    departs = OTHER[role]
    positions = ", each with the positions of the first" if local else ""
    return Explanation(
        id=ID, departs=departs, explained=1.0, module=inside.name, equivalent=["sp-condition-sharded"] if local else [], stage="caching_parallel",
        statement=f"{inside.names[departs]} of the {departs} works on each of {parts} parts of the sequence as if it were the whole{positions}",
        relation={"kind": "parts_alone", "parts": parts, "side": departs, "positions": "first part" if local else "own"},
        experiment=f"ran the {role}'s {inside.names[role]} on {parts} parts of its inputs one by one{positions}, and put the outputs together: "
                   f"this is what the {departs}'s puts out",
        fix=f"hand the parallel settings down to {inside.names[departs]} of the {departs}, so that it exchanges keys and values with the "
            "other ranks")  # fmt: skip


def _in_parts(inside: Inside, role: str, length: int, parts: int, local: bool) -> list[torch.Tensor] | None:
    """The module's tensors over `parts` runs, those of the sequence joined, the others the first run's."""
    call = inside.calls[role]
    with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError, NotHere):
        runs = []
        for piece in pieces(length, parts):
            where = slice(0, piece.stop - piece.start) if local else piece
            args, kwargs = tree_map(lambda v: _part(v, length, piece, where), (call.args, call.kwargs))  # noqa: B023
            part = dataclasses.replace(call, args=args, kwargs=kwargs)
            runs.append(tensors_in(_run(inside, role, part)))
        return [torch.cat(several, 1) if several[0].dim() == 3 and sum(t.shape[1] for t in several) == length else several[0]
                for several in zip(*runs)]  # fmt: skip
    return None


def _run(inside: Inside, role: str, call):
    torch.manual_seed(0)
    with torch.no_grad():
        return inside.modules[role](*call.args, **call.kwargs)


def _part(value, length: int, piece: slice, where: slice):
    """A rank's part: rows of the sequence, and of tables that have a row for each token (or text before the sequence's)."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.dim() == 3 and value.shape[1] == length:
        return value[:, piece].clone()
    axis = next((a for a in range(value.dim() - 1) if value.dim() != 3 and value.shape[a] >= length), None)
    if axis is None:
        return value.clone()
    before = value.shape[axis] - length  # rows of the text
    rows = torch.cat([torch.arange(before), before + torch.arange(where.start, where.stop)])
    return value.index_select(axis, rows.to(value.device))
