"""Tables of positions: is one side's the other's, with the axes in another order or the positions of another rank's part?

Looked at where they are made (a module that puts out sines and cosines) and where they are received.
"""

from __future__ import annotations

import itertools

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside import roles
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import tensors_in

PARTS = (2, 3, 4, 8)


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    for what, pairs in _tables(inside):
        if not pairs:
            continue
        for test in (_local, _divided, _divided_grid, _axes):
            found = test(pairs)
            if found is not None:
                return _explanation(inside, what, *found)
    return None


def _tables(inside: Inside):
    """(words, [(reference's, candidate's)]): tables put out, or positions received by a module that makes tables of them."""
    if inside.can_run and roles.makes_rotations(inside):
        made = inside.outputs()
        yield f"the table that {inside.name} puts out", _paired(tensors_in(made["reference"]), tensors_in(made["candidate"]))
    if inside.why == "input" and inside.received and roles.is_rotary_name(inside.where):
        yield f"what {inside.where} receives", _paired(*inside.received)


def _paired(mine, theirs):
    pairs = list(zip(mine, theirs))
    return pairs if len(mine) == len(theirs) and all(a.shape == b.shape and a.dim() >= 2 for a, b in pairs) else []


def _explanation(inside: Inside, what, id_, words, relation, departs="candidate") -> Explanation:
    return Explanation(
        id=id_, statement=f"{what} is {words} in the {departs}", relation={"kind": "table", **relation}, explained=1.0, module=inside.name,
        departs=departs, experiment=f"made the {departs}'s table from the other side's in this way: both are equal in every entry",
        fix=f"use the positions of the whole sequence, with its axes in the model's order, in {inside.names[departs]} of the {departs}")  # fmt: skip


def _local(pairs):
    """Rows from one place on repeat those of the first part: positions that count from 0 on each rank."""
    for side, (mine, theirs) in (("candidate", (0, 1)), ("reference", (1, 0))):
        for axis in range(pairs[0][0].dim() - 1):
            found = [_repeats(pair[mine], pair[theirs], axis) for pair in pairs]
            common = set.intersection(*found) if found else set()
            if common:
                start, size = max(common, key=lambda c: (c[1], -c[0]))
                return "sp-condition-sharded", f"that of the first {size} positions again and again", {"from": start, "parts_of": size}, side
    return None


def _repeats(whole: torch.Tensor, local: torch.Tensor, axis: int) -> set[tuple[int, int]]:
    """(start, size) for which local = whole up to start, and then the `size` rows from there on, repeated."""
    whole, local = whole.movedim(axis, 0), local.movedim(axis, 0)
    length = whole.shape[0]
    same = [torch.equal(a, b) for a, b in zip(whole, local)]
    if all(same) or length < 4:
        return set()
    first = same.index(False)
    found = set()
    for start in range(first):
        size = first - start
        if size < 2 or (length - start) / size > 16:
            continue
        index = [start + (i - start) % size if i >= start else i for i in range(length)]
        if torch.equal(whole[index], local):
            found.add((start, size))
    return found


def _divided(pairs):
    """The parts of one axis stand along another: divided, and put together again, along different axes."""
    for parts in PARTS:
        for a, b in itertools.permutations(range(pairs[0][0].dim()), 2):
            if all(x.shape[a] % parts == 0 for x, _ in pairs) and all(_moved(x, y, parts, a, b) for x, y in pairs):
                return "sp-wrong-axis", f"divided into {parts} parts along axis {a} and joined along axis {b}", {"parts": parts, "axis": a}
    return None


def _divided_grid(pairs):
    """Rows of a grid (after those of text, if any) divided among ranks by columns, and joined one part after the other."""
    for side, (mine, theirs) in (("candidate", (0, 1)), ("reference", (1, 0))):
        for axis in range(pairs[0][0].dim() - 1):
            found = [_by_columns(pair[mine].movedim(axis, 0), pair[theirs].movedim(axis, 0)) for pair in pairs]
            common = set.intersection(*found)
            if common:
                start, width, parts = min(common)
                words = f"divided into {parts} parts along the width ({width}) of the grid from row {start} on, and joined along the sequence"
                return "sp-wrong-axis", words, {"parts": parts, "width": width, "from": start}, side
    return None


def _by_columns(whole: torch.Tensor, joined: torch.Tensor) -> set[tuple[int, int, int]]:
    """(start, width, parts) for which `joined` has the rows of `whole` from `start` on, a grid of that width, part after part."""
    length = whole.shape[0]
    differ = (whole != joined).flatten(1).any(1).nonzero().flatten().tolist()
    if not differ or length < 4:
        return set()
    found = set()
    for start, parts in itertools.product(range(differ[0]), PARTS):
        width = parts * (differ[0] - start)  # the first part of the first row stays where it was, then comes the second row
        if (length - start) % width or length - start == width or not torch.equal(whole[start + width], joined[differ[0]]):
            continue
        rows = torch.arange(start, length).view(-1, width)
        index = torch.cat([torch.arange(start), *(part.flatten() for part in rows.chunk(parts, 1))])
        if torch.equal(whole[index], joined):
            found.add((start, width, parts))
    return found


def _moved(x, y, parts, a, b) -> bool:
    joined = torch.cat(x.chunk(parts, a), b)
    return not torch.equal(x, y) and joined.numel() == y.numel() and torch.equal(joined.reshape(y.shape), y)


def _axes(pairs):
    """Columns of positions, or the channels that belong to them, in another order."""
    last = pairs[0][0].shape[-1]
    if last <= 4:
        for order in itertools.permutations(range(last)):
            if list(order) != sorted(order) and all(torch.equal(x[..., list(order)], y) for x, y in pairs):
                return "rope-axis-split", f"the other side's with its axes in the order {list(order)}", {"order": list(order)}
        return None
    for sizes in _splits(last):
        for order in itertools.permutations(range(3)):
            if list(order) == sorted(order):
                continue
            if all(torch.equal(torch.cat([x.split(sizes, -1)[i] for i in order], -1), y) for x, y in pairs):
                return "rope-axis-split", f"the other side's with its parts of {sizes} channels in the order {list(order)}", {
                    "sizes": list(sizes), "order": list(order)}  # fmt: skip
    return None


def _splits(last: int):
    """Divisions of the channels among three axes, in even numbers."""
    for a in range(2, last - 3, 2):
        for b in range(2, last - a - 1, 2):
            yield [a, b, last - a - b]
