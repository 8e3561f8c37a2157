"""Steps that are taken with the right solver but in the wrong state: twice, not at all, at another list index, with a false past.

Each function yields (id, words, relation, fix) for what reproduces the other side's updates.
"""

from __future__ import annotations

import copy

import torch

_OTHER = {"reference": "candidate", "candidate": "reference"}


def repeated(table, role: str):
    """One step, or each, is made twice or left out; the scheduler's list index goes on with it or stays."""
    other = _OTHER[role]
    first = table.finding.place.step
    for steps, where in (({first}, f"at step {first}"), (None, "at every step")):
        for times, did in ((2, "made twice"), (0, "left out")):
            if any(table.made(other, table.recipes[role], _times(steps, times, moves)) for moves in (True, False)):
                yield ("step-double-application", f"the {role}'s, {did} {where}",
                       {"kind": "repeated_step", "times": times, "step": first if steps else None},
                       f"call scheduler.step exactly once per step in the {other}")  # fmt: skip
                return


def _times(steps: set[int] | None, times: int, moves: bool):
    def defect(scheduler, k: int, call, sample):
        if steps is not None and k not in steps:
            return call()
        if times == 0:
            if moves:
                call()
            return sample.clone()
        made = call()
        index = getattr(scheduler, "_step_index", None)
        if not moves and isinstance(index, int):
            scheduler._step_index = index - 1
        return call(sample=made)

    return defect


def shifted(table, role: str):
    """The loop begins one entry further down or up the list than it should."""
    other, own, given = _OTHER[role], table.recipes[role], table.loops[_OTHER[role]]
    for offset in (1, -1):
        if not table.made(other, own, _offset(given, offset)):
            continue
        starts = _begin(given, given.schedule.get("timesteps"))
        yield ("duplicate-timestep-begin-index", f"the {role}'s begun at list index {starts + offset} instead of {starts}",
               {"kind": "begin_index", role: starts, other: starts + offset},
               f"set the {other}'s begin index to {starts} (set_begin_index) and do not search the list for the timestep")  # fmt: skip
        return


def _begin(given, timesteps: torch.Tensor | None) -> int:
    if given.begin is not None:
        return given.begin
    at = [] if timesteps is None else (timesteps.double() == given.timesteps[0]).nonzero().flatten().tolist()
    return at[0] if at else 0


def _offset(given, offset: int):
    def defect(scheduler, k: int, call, sample):
        if hasattr(scheduler, "_step_index"):
            if k == 0:
                begin = _begin(given, scheduler.timesteps) + offset
                if begin < 0:
                    raise IndexError("before the list")
                scheduler._step_index = begin
            return call()
        wanted = min(max(k + offset, 0), len(given.timesteps) - 1)
        return call(timestep=given.timesteps[wanted])

    return defect


def with_a_past(table, role: str):
    """A multistep solver that begins in mid-list takes its first step with a history it does not have."""
    other, own = _OTHER[role], table.recipes[role]
    if not _begin(table.loops[other], table.loops[other].schedule.get("timesteps")):
        return
    for filled in ("zeros", "its own first estimate"):
        if table.made(other, own, _history(filled == "zeros")):
            yield ("multistep-start-not-at-zero", f"the {role}'s with order 2 already at the first step that is run (its past: {filled})",
                   {"kind": "warm_up", role: 1, other: 2},
                   f"count the solver's warm-up in the {other} from the first step that is run, not from list index 0")  # fmt: skip
            return


def _history(zeros: bool):
    def defect(scheduler, k: int, call, sample):
        if k == 0 and hasattr(scheduler, "model_outputs") and hasattr(scheduler, "lower_order_nums"):
            rehearsal = copy.deepcopy(scheduler)
            call(scheduler=rehearsal)
            estimate = rehearsal.model_outputs[-1]
            scheduler.model_outputs = [torch.zeros_like(estimate) if zeros else estimate for _ in scheduler.model_outputs]
            scheduler.lower_order_nums = max(scheduler.lower_order_nums, len(scheduler.model_outputs) - 1)
        return call()

    return defect


DEFECTS = (shifted, with_a_past, repeated)
