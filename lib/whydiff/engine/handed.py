"""Between modules of two implementations: which code, on each side, made the value that is the first to depart?"""

from __future__ import annotations

import re

import torch

from whydiff.causes.inside.between import Between
from whydiff.causes.inside.inside import Inside
from whydiff.engine.modules import ModuleWalk, bare, find
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.recording.calls import Call, tensors_in
from whydiff.measure.pairing.outputs import difference

ROLES = ("reference", "candidate")
MOST_OUTWARDS = 4  # modules around the first that received something else


def between(lab, walk: ModuleWalk, entry: Inside, calls: dict[str, dict[str, Call]]) -> Inside:
    """`entry`, the place that the walk found, with what experiments need to run each side's own code there."""
    paired = {role: {bare(name) for pair in walk.alignment.pairs if " output " not in (name := getattr(pair, role))} for role in ROLES}
    first = {role: calls[role].get(_key(getattr(walk.first, role))) for role in ROLES}
    if not all(first.values()):
        return entry
    if walk.itself:
        if first["candidate"].name != entry.name or walk.first.part_reference or walk.first.part_candidate:
            return entry
        made = _made(lab, entry, first, dict.fromkeys(ROLES), paired, calls, entry.names)
        made.index = {role: int(re.search(r"( output (\d+))?$", getattr(walk.first, role))[2] or 0) for role in ROLES}
        return made
    tolerance = STANDS_OUT * entry.floor
    agreeing = {role: _before(walk, role) for role in ROLES}
    asked = []
    for regions, children in _outwards(calls, first, paired):
        certain = {role: _known(regions[role], calls[other], [c for c in calls[role].values() if c.name in agreeing[role]], tolerance)
                   for role, other in zip(ROLES, ROLES[::-1])}  # fmt: skip
        if not asked or any(certain.values()):
            names = dict(entry.names)
            for role in ROLES:  # a module that puts the value out and received nothing new is the place, whatever the other side does
                if all(certain.values()) or (certain[role] and children[role] is None):
                    names[role] = regions[role].name
            asked.append(_made(lab, entry, regions, children, paired, calls, names))
        if any(certain.values()):
            break
    if not asked:
        return entry
    asked[0].instead = asked[1] if len(asked) > 1 else None
    return asked[0]


def _outwards(calls: dict[str, dict[str, Call]], first: dict[str, Call], paired: dict[str, set[str]]):
    """(the call that made what `first` received, the module that was handed it) of each side; then what handed those their own
    first inputs, and so on for as long as both sides received values of one size."""
    for _ in range(MOST_OUTWARDS):
        makers = {role: maker(calls[role], first[role], paired[role]) for role in ROLES}
        regions = {role: made[0] for role, made in makers.items()}
        if not all(regions.values()):
            return
        yield regions, {role: first[role].module if handed else None for role, (_, handed) in makers.items()}
        sizes = [[t.numel() for t in tensors_in(regions[role].inputs)[:1]] for role in ROLES]
        if sizes[0] != sizes[1] or not sizes[0]:
            return
        first = regions


def maker(calls: dict[str, Call], receiver: Call, paired: set[str]) -> tuple[Call | None, bool]:
    """The call that made what a call received: the module that put it out, or (True) the one whose code handed it over."""
    value = tensors_in(receiver.inputs)[:1]
    made = [call for call in calls.values() if value and 0 <= call.done < receiver.done and call.name not in paired
            and any(torch.equal(t, value[0]) for t in tensors_in(call.output)[:1] if t.shape == value[0].shape)]  # fmt: skip
    if made:
        return max(made, key=lambda call: call.done), False
    return calls.get(receiver.parent) if receiver.parent else None, True


def _before(walk: ModuleWalk, role: str) -> set[str]:
    """The modules of a side whose outputs agree with their counterparts', up to the first that departs."""
    pairs = walk.alignment.pairs
    return {bare(getattr(pair, role)) for pair in pairs[: pairs.index(walk.first)]}


def _known(call: Call, others: dict[str, Call], agreeing: list[Call], tolerance: float) -> bool:
    """Has a call received nothing but values that the other side has, too, or that did no harm where modules agree?"""
    seen = [t for other in others.values() for t in tensors_in((other.inputs, other.output))]
    seen += [t for other in agreeing for t in tensors_in(other.inputs)]
    seen = {id(t): t for t in seen if t.is_floating_point()}.values()
    return all(any(t.numel() == mine.numel() and difference(mine, t) <= tolerance for t in seen)
               for mine in tensors_in(call.inputs) if mine.is_floating_point() and mine.numel())  # fmt: skip


def _made(lab, entry: Inside, regions, children, paired, calls, names) -> Between:
    modules = {role: find(lab.sides[role], regions[role].name) for role in ROLES}
    called = {role: regions[role].name for role in ROLES}
    return Between(called, modules, entry.roots, regions, entry.difference, entry.floor, entry.step, entry.stage,
                   children=children, paired=paired, around=calls, place=dict(names))  # fmt: skip


def _key(paired: str) -> str:
    """The key of a recorded call, of the name of an output."""
    return bare(paired) if " call " not in paired else ""
