"""From which hidden layers are the embeddings taken? Each side's are looked for among all hidden states of a live encoder."""

from __future__ import annotations

import dataclasses
import functools

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.causes.prompt.encoder import Call, looked_into
from whydiff.measure.compare import relative_l2


@dataclasses.dataclass(frozen=True)
class Piece:
    """A block of an embedding (B, L, W) that is one hidden state: rows from `row`, channels from `column` on."""

    component: str
    layer: int  # behind so many blocks
    normed: bool
    row: int
    column: int
    values: torch.Tensor  # (B or 1, rows, D), as the encoder makes them

    @property
    def where(self) -> tuple[int, int]:
        return self.row, self.column


def explain(finding: Finding, lab) -> list[Explanation]:
    """`clip-skip`, `wrong-layer-list`, `hidden-state-index-base`, `encoder-final-norm`: other layers of the same encoder."""
    place = finding.place
    mine = finding.reference[place]
    theirs = finding.candidate.get(place, lab.own_value("candidate", place))
    if theirs is None or mine.dim() != 3 or theirs.dim() != 3:
        return []
    if not same_inside(finding, lab):
        return []
    for role in ("reference", "candidate"):
        if lab.sides[role] is None:
            continue
        calls = looked_into(lab, role, finding)
        near = functools.partial(lab.closes, finding)
        found = {"reference": pieces(mine, calls, near), "candidate": pieces(theirs, calls, near)}
        if not all(found.values()):
            continue
        if mine.shape == theirs.shape:
            made = _with_pieces(mine, found["candidate"])
            if [p.where for p in found["reference"]] != [p.where for p in found["candidate"]] or not lab.closes(finding, theirs, made):
                continue
            share = explained_share(theirs, mine, made)
        elif all(_covered(t, found[r]) for r, t in (("reference", mine), ("candidate", theirs))):
            share = 1.0
        else:
            continue
        explanation = told(finding, role, found, {call.component: call.blocks for call in calls}, share)
        if explanation is not None:
            return [explanation]
    return []


def same_inside(finding: Finding, lab) -> bool:
    """Do the encoders of two live sides make the same hidden states, so that only what is done with them can differ?

    True also where one side cannot be looked into.
    """
    if None in lab.sides.values():
        return True
    mine, theirs = (looked_into(lab, role, finding) for role in ("reference", "candidate"))
    if not theirs or [(c.component, c.blocks) for c in mine] != [(c.component, c.blocks) for c in theirs]:
        return True
    for a, b in zip(mine, theirs):
        ends = [(a.normed(-1), b.normed(-1))] if a.norm is not None and b.norm is not None else []
        for x, y in (*zip(a.states, b.states), *ends):
            if x.shape != y.shape or not lab.closes(finding, x, y):
                return False
    return True


def pieces(target: torch.Tensor, calls: list[Call], near) -> list[Piece]:
    """The hidden states that `target` (B, L, W) holds side by side, or one behind another, in the order of their channels."""
    found: list[Piece] = []
    sizes = {call.states[-1].shape[2] for call in calls}
    starts_row = {0, *(call.ids.shape[1] for call in calls), *(target.shape[1] - call.ids.shape[1] for call in calls)}
    for row in sorted(r for r in starts_row if 0 <= r < target.shape[1]):
        columns = [0]
        while columns:
            column = columns.pop(0)
            piece = _piece(target, calls, row, column, near)
            if piece is not None:
                found.append(piece)
            steps = {piece.values.shape[2]} if piece is not None else sizes
            columns = sorted({*columns, *(column + s for s in steps if column + s < target.shape[2])})
    return found


def _piece(target: torch.Tensor, calls: list[Call], row: int, column: int, near) -> Piece | None:
    for call in calls:
        width = call.states[-1].shape[2]
        block = target[:, row:, column : column + width]
        if block.shape[2] < width or not block.any():
            continue
        for normed in (False, True):
            for layer in range(len(call.states)):
                state = call.normed(layer) if normed else call.states[layer]
                values = None if state is None else _aligned(state, block, near)
                if values is not None:
                    return Piece(call.component, layer, normed, row, column, values)
    return None


def _aligned(state: torch.Tensor, block: torch.Tensor, near) -> torch.Tensor | None:
    """The rows of a state that a block starts with: all, or those behind a template's, with zeros behind those of each prompt."""
    batches = [state] if state.shape[0] == block.shape[0] else [state[i : i + 1] for i in range(state.shape[0])]
    for values in batches:
        crops = {0, values.shape[1] - block.shape[1]} | _crop(values, block)
        for crop in sorted(c for c in crops if 0 <= c < values.shape[1]):
            cut = values[:, crop : crop + block.shape[1]]
            part = block[:, : cut.shape[1]]
            filled = part.any(-1).flip(1).cumsum(1).flip(1) > 0  # (B, rows): up to the last that is not zero
            rows = int(filled.any(0).sum())
            made = torch.where(filled[..., None], cut.to(part.dtype).expand_as(part), part.new_zeros(()))[:, :rows]
            if rows and (rows > 1 or cut.shape[1] == 1) and near(part[:, :rows], made):
                return made
    return None


def _crop(values: torch.Tensor, block: torch.Tensor) -> set[int]:
    """Where the block's first row stands among the state's, where it is longer."""
    if values.shape[1] <= block.shape[1]:
        return set()
    distance = (values[0].double() - block[0, :1].double()).norm(dim=1)
    return {int(distance.argmin())}


def _with_pieces(base: torch.Tensor, found: list[Piece]) -> torch.Tensor:
    made = base.clone()
    for piece in found:
        rows, width = piece.values.shape[1:]
        made[:, piece.row : piece.row + rows, piece.column : piece.column + width] = piece.values
    return made


def _covered(target: torch.Tensor, found: list[Piece]) -> bool:
    """Do the pieces fill every channel, and every row that is not zero?"""
    return relative_l2(target, _with_pieces(torch.zeros_like(target), found)) < 0.5


def told(finding: Finding, role: str, found: dict[str, list[Piece]], blocks: dict[str, int], share: float) -> Explanation | None:
    """The explanation for pieces found on both sides; None where they are the same ones."""
    reference, candidate = found["reference"], found["candidate"]
    changed = [(a, b) for a, b in zip(reference, candidate) if (a.layer, a.normed) != (b.layer, b.normed)]
    if (not changed and len(reference) == len(candidate)) or any(a.component != b.component for a, b in zip(reference, candidate)):
        return None
    component = changed[0][0].component if changed else reference[0].component
    depth = blocks[component]
    layers = {r: [(p.layer, p.normed) for p in ps if p.component == component] for r, ps in found.items()}
    numbers = {r: [layer for layer, _ in entries] for r, entries in layers.items()}
    shifts = {b.layer - a.layer for a, b in zip(reference, candidate) if a.component == component}
    words = {r: " and ".join(f"layer {layer}{' with' if normed else ' without'} the final norm" for layer, normed in entries)
             for r, entries in layers.items()}  # fmt: skip
    if numbers["reference"] == numbers["candidate"]:
        id_, equivalent = "encoder-final-norm", []
    elif len(layers["reference"]) == len(layers["candidate"]) == 1:
        id_, equivalent = "clip-skip", ["wrong-layer-list"] + (["hidden-state-index-base"] if shifts <= {1, -1} else [])
    elif len(shifts) == 1 and shifts <= {1, -1} and len(reference) == len(candidate):
        id_, equivalent = "hidden-state-index-base", ["wrong-layer-list"]
    else:
        # A last layer cannot move on by one, so a list that is off by one may lack its end.
        id_, equivalent = "wrong-layer-list", ["hidden-state-index-base"] if shifts <= {0, 1} or shifts <= {0, -1} else []
    return Explanation(
        id=id_, departs="unknown", explained=share, equivalent=equivalent,
        statement=f"candidate's {finding.probe} is {words['candidate']} of {component} (of {depth}), the reference's {words['reference']}",
        relation={"kind": "layers", "component": component, "depth": depth, **numbers,
                  "normed": {r: [normed for _, normed in entries] for r, entries in layers.items()}},
        experiment=f"ran the {role}'s {component} and looked for both embeddings among its {depth + 1} hidden states, with and without "
                   "the final norm: each is found there",
        fix=f"take {words['reference']} of {component} in the candidate, or {words['candidate']} in the reference: look up which the "
            "checkpoint was trained with")  # fmt: skip
