"""The runs that tell how far a side is from itself: after another request (A-B-A), and with rounding drawn anew."""

from __future__ import annotations

import functools

import torch

from whydiff.engine.requests import other_request
from whydiff.evidence.floor import ULP_RUNS, Floor, loud, mover, quieten, stored_floor, widen
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place


def measure(lab) -> None:
    """Set `lab.floor`, measured on the reference, or on the candidate if only that is live or only that repeats itself.

    Each live side is also run with another prompt and seed (B, `lab.between`) and then again as it was (`lab.repeats`, the
    second A of A-B-A): if that differs from the first, something leaked.
    """
    for role, side in lab.sides.items():
        if side is None:
            continue
        lab.said(f"running {role} again, after another prompt (A-B-A)")
        alone = lab.alone[role]
        lab.between[role] = alone.run("another request", side, functools.partial(lab.run, role, changes=other_request(side)))
        lab.repeats[role] = alone.run("again", side, functools.partial(lab.run, role))
    # A side whose state moves from run to run has no floor to measure: the one that repeats itself has.
    live = sorted(lab.repeats, key=lambda role: (not alike(lab.traces[role], lab.repeats[role]), role != "reference"))
    if not live:
        trace = lab.traces["reference"]
        lab.floor = stored_floor(trace) if trace is not None else lab.floor
        return
    lab.floor_role, *others = live
    lab.floor = _of_the_side(lab, lab.floor_role)
    if others and loud(lab.floor.added, lab.traces[lab.floor_role]):
        _quietened(lab, others[0])


def _of_the_side(lab, role: str) -> Floor:
    return lab.alone[role].floor(lambda: of(lab, role, lab.repeats[role]))


def of(lab, role: str, own: Trace) -> Floor:
    """The floor of one side around its run `own`: the second A, as what an earlier run leaves behind is a leak and no noise."""
    inherited: dict[Place, float] = {}
    added: dict[Place, float] = {}
    for seed in range(ULP_RUNS):
        lab.said(f"measuring the noise floor of {role}, run {seed + 1} of {ULP_RUNS}")
        widen(inherited, own, lab.run(role, substitute=mover(None, seed), shaken=seed))
        widen(added, own, lab.run(role, substitute=mover(own, seed), shaken=seed))
    return Floor(inherited, added, "measured")


def _quietened(lab, other: str) -> None:
    """Hold the floor against the other side's, so that a side that computes coarsely does not excuse itself by that."""
    quieter = _of_the_side(lab, other)
    lowered = [quieten(lab.floor.added, quieter.added), quieten(lab.floor.inherited, quieter.inherited)]
    if any(lowered):
        lab.notes.append(f"rounding inside the {lab.floor_role} is coarser than the types of its tensors account for (autocast, or a kernel "
                         f"in half precision); where the {other}'s own noise floor is lower, differences are held against that one")  # fmt: skip


def alike(one: Trace, other: Trace) -> bool:
    """Do two runs of one side hold the same, bit for bit, wherever both hold something?"""
    return all(torch.equal(one[p].nan_to_num(), other[p].nan_to_num()) for p in other if p in one and one[p].shape == other[p].shape)
