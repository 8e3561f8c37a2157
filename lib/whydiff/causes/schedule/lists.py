"""Two lists of noise levels that no other settings separate, but how one of them was made: in 16 bit, cut to integers, moved by
one, not shifted with the other column, taken from a finer list."""

from __future__ import annotations

import numpy as np
import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.causes.schedule.recipe import recipe, same_list
from whydiff.formulas.schedule import unshift_sigmas
from whydiff.formulas.schedule_lists import (
    LOW,
    in_low_precision,
    scale_between,
    shift_between,
    spacings,
    whole_numbers,
)
from whydiff.formulas.schedule_solve import solve_schedule
from whydiff.places import Place

_OTHER = {"reference": "candidate", "candidate": "reference"}
FINER = (10, 20, 25, 30, 40, 50, 100, 200, 250, 500, 1000)  # step counts from which few-step schedules are taken


def explain(finding: Finding, lab) -> list[Explanation]:
    """The first of these that reproduces one side's list from the other's."""
    if finding.place not in finding.candidate:
        return []
    lists = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    if not all(bool(t.isfinite().all()) and t.dim() == 1 and t.numel() for t in lists.values()):
        return []
    for experiment in (not_shifted, low_precision, moved, other_rounding, first_of_finer):
        found = experiment(finding, lab, lists)
        if found:
            return found
    return []


def columns(lab, role: str):
    """(sigmas, timesteps) of one side's undisturbed run as float64 arrays; None where one is missing. In a run fed with the
    other side's sigmas, timesteps made of them would agree with those."""
    trace = lab.traces[role]
    sigmas, timesteps = (None if trace is None else trace.get(name) for name in ("sigmas", "timesteps"))
    return None if sigmas is None or timesteps is None else (sigmas.double().numpy(), timesteps.double().numpy())


def not_shifted(finding: Finding, lab, lists) -> list[Explanation]:
    """One column agrees between the sides, the other not, and on one side timesteps are no multiple of the sigmas."""
    both = {role: columns(lab, role) for role in lists}
    if None in both.values():
        return []
    other = 1 if finding.probe == "sigmas" else 0
    if not same_list(*(torch.from_numpy(both[role][other]) for role in ("reference", "candidate"))):
        return []
    scales = {role: scale_between(*pair) for role, pair in both.items()}
    bad = [role for role, scale in scales.items() if scale is None]
    if len(bad) != 1:
        return []
    (role,), (sigmas, timesteps) = bad, both[bad[0]]
    scale = scales[_OTHER[role]]
    levels = sigmas[: len(timesteps)]
    shift, column, rest = shift_between(timesteps / scale, levels), "timesteps", "sigmas"
    if shift is None:  # shifted, then stretched or bent: an even grid beside it is the one before all that
        return _even(role, scale, levels, timesteps)
    if shift < 1:  # the timesteps carry the larger shift: the sigmas were left out
        column, rest, shift = rest, column, 1 / shift
    return [Explanation(
        id="timesteps-not-shifted", departs=role, explained=1.0,
        statement=f"{role}'s {column} are not shifted and its {rest} are, by {number(round(shift, 4))}; the {_OTHER[role]}'s timesteps are "
                  f"{number(scale)} times its sigmas",
        relation={"kind": "not_shifted", "side": role, "column": column, "shift": shift},
        experiment=f"shifted the {role}'s {column} by {number(round(shift, 4))}: they agree with its {rest} times {number(scale)}"
                   if column == "timesteps" else f"shifted the {role}'s sigmas by {number(round(shift, 4))}: they agree with its timesteps",
        fix=f"compute both columns from the same shifted list in the {role} (timesteps = {number(scale)} · sigmas)")]  # fmt: skip


def _even(role: str, scale: float, levels: np.ndarray, timesteps: np.ndarray) -> list[Explanation]:
    """One column is evenly spaced and the other not, both from one starting level."""
    even = {name: len(v) > 2 and np.abs(np.diff(v, 2)).max() <= 2e-5 * np.abs(v).max() for name, v in (("sigmas", levels), ("timesteps", timesteps))}
    if even["sigmas"] == even["timesteps"] or abs(levels[0] * scale - timesteps[0]) > 1e-4 * scale:
        return []
    column, rest = ("timesteps", "sigmas") if even["timesteps"] else ("sigmas", "timesteps")
    return [Explanation(
        id="timesteps-not-shifted", departs=role, explained=1.0,
        statement=f"{role}'s {column} are evenly spaced, as before any shift, and its {rest} are not; the {_OTHER[role]}'s timesteps are "
                  f"{number(scale)} times its sigmas",
        relation={"kind": "not_shifted", "side": role, "column": column, "shift": None},
        experiment=f"compared both columns of each side: the {_OTHER[role]}'s are one list times {number(scale)}, the {role}'s are not, and its "
                   f"{column} are an even grid from {timesteps[0]:.6g}",
        fix=f"compute both columns from the same shifted list in the {role} (timesteps = {number(scale)} · sigmas)")]  # fmt: skip


def low_precision(finding: Finding, lab, lists) -> list[Explanation]:
    """One side's sigmas are the other's, computed in bfloat16 or float16 on the way."""
    if finding.probe != "sigmas":
        return []
    for role in ("candidate", "reference"):
        fine, coarse = lists[_OTHER[role]], lists[role]
        if fine.dtype in LOW or fine.shape != coarse.shape or float(fine.max()) > 1 + 1e-6:
            shifts = []
        else:
            shifts = [1.0, *_shifts(fine)]
        for dtype in LOW:
            tries = [(w, t) for shift in shifts for w, t in in_low_precision(fine, shift, dtype)]
            tries += [("the sigmas", fine.float().to(dtype).float()), *_passed_in(lab, _OTHER[role], fine, dtype)]
            tries += [(words, below_one(grid)) for words, grid in tries]
            for words, made in tries:
                if _nearly(made, coarse) and not _nearly(made, fine):
                    name, unique = str(dtype).removeprefix("torch."), len(torch.unique(coarse.float()))
                    return [Explanation(
                        id="sigmas-built-in-low-precision", departs=role, explained=1.0,
                        statement=f"{role}'s sigmas are the {_OTHER[role]}'s with {words} computed in {name}: {unique} different values "
                                  f"of {coarse.numel()}",
                        relation={"kind": "low_precision", "dtype": name, "where": words, "unique": unique, "of": coarse.numel()},
                        experiment=f"computed the {_OTHER[role]}'s sigmas again with {words} in {name}: equals the {role}'s",
                        fix=f"build the grid of sigmas in float32 (or float64) in the {role} and convert the result")]  # fmt: skip
    return []


def below_one(sigmas: torch.Tensor) -> torch.Tensor:
    """A list (N,) as schedulers that take logarithms keep it: its first sigma of 1 moved down by 1e-6 (diffusers'
    scheduling_unipc_multistep.py, set_timesteps)."""
    if not sigmas.numel() or abs(float(sigmas[0]) - 1) > 2e-6:
        return sigmas
    return torch.cat([sigmas.new_full((1,), 1 - 1e-6), sigmas[1:]])


def _passed_in(lab, role: str, fine: torch.Tensor, dtype: torch.dtype):
    """A side's sigmas when the list that its pipeline passes to set_timesteps is held in `dtype`."""
    made = recipe(lab, role)
    given = None if made is None else made.arguments.get("sigmas")
    own = None if given is None else made.schedule().get("sigmas")
    if own is None or not same_list(own, fine):
        return
    grid = torch.tensor(given, dtype=torch.float64)
    for low in (grid.float().to(dtype), torch.linspace(float(grid[0]), float(grid[-1]), len(grid), dtype=dtype)):
        again = made.with_arguments(sigmas=low.double().tolist()).schedule().get("sigmas")
        if again is not None:
            yield "the grid before the shift", again.float()


def shifted_again(finding: Finding, lab) -> list[Explanation]:
    """Whatever the list is: one side's is the other's, shifted by one more constant."""
    if finding.place not in finding.candidate or finding.probe != "sigmas":
        return []
    mine, theirs = (getattr(finding, role)[finding.place].double() for role in ("reference", "candidate"))
    if max(float(mine.max()), float(theirs.max())) > 1 + 1e-6 or not bool(mine.isfinite().all() and theirs.isfinite().all()):
        return []
    shift = shift_between(mine.numpy(), theirs.numpy())
    if shift is None or abs(shift - 1) <= 1e-4:
        return []
    more, times = ("candidate", shift) if shift > 1 else ("reference", 1 / shift)
    stated = {role: told[1].get(key) for role in ("reference", "candidate") if (told := lab.component_config(role, "scheduler"))
              for key in ("flow_shift", "shift") if told[1].get(key)}  # fmt: skip
    twice = any(abs(value / times - 1) <= 1e-3 for value in stated.values()) and len(set(stated.values())) == 1
    return [Explanation(
        id="shift-applied-twice" if twice else "shift-constant", equivalent=["shift-constant" if twice else "shift-applied-twice"],
        departs=more if twice else "unknown", explained=1.0,
        statement=f"{more}'s sigmas are the other side's shifted once more, by {number(round(times, 4))}"
                  + (", which is the shift that both configurations state" if twice else ""),
        relation={"kind": "schedule_shift", "factor": shift, "side": more},
        experiment=f"shifted the {_OTHER[more]}'s sigmas by {number(round(times, 4))}: equals the {more}'s",
        fix=f"shift the sigmas once in the {more}")]  # fmt: skip


def _shifts(sigmas: torch.Tensor) -> list[float]:
    whole = sigmas if float(sigmas[0]) in (1.0, 0.0) or below_one(sigmas) is sigmas else torch.cat([sigmas.new_ones(1), sigmas[1:]])
    fits = [fit for fit in solve_schedule(whole) if fit.explains]
    return list(dict.fromkeys(fit.shift for fit in fits[:4] if fit.shift))


def _nearly(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a.double() - b.double()).abs().max() <= 2e-7 * max(1.0, float(b.double().abs().max())))


def moved(finding: Finding, lab, lists) -> list[Explanation]:
    """All timesteps are moved by one small whole number."""
    if finding.probe != "timesteps" or lists["reference"].shape != lists["candidate"].shape:
        return []
    mine, theirs = (lists[role].double() for role in ("reference", "candidate"))
    step = theirs - mine
    offset = float(step[0])
    if not offset or offset != round(offset) or abs(offset) > 5 or bool((step != offset).any()) or float(mine.max()) <= 5:
        return []
    return [Explanation(
        id="steps-offset", departs="unknown", explained=1.0,
        statement=f"candidate's timesteps are the reference's {'plus' if offset > 0 else 'minus'} {abs(int(offset))}, all of them",
        relation={"kind": "offset", "offset": int(offset)},
        experiment=f"subtracted {int(offset)} from the candidate's timesteps: equals the reference's",
        fix="use the checkpoint's steps_offset on both sides")]  # fmt: skip


def other_rounding(finding: Finding, lab, lists) -> list[Explanation]:
    """One real list of timesteps made whole in two ways."""
    if finding.probe != "timesteps" or lists["reference"].shape != lists["candidate"].shape:
        return []
    mine, theirs = (lists[role].double().numpy() for role in ("reference", "candidate"))
    if (np.abs(mine - theirs) > 1).any() or any((v != np.round(v)).any() for v in (mine, theirs)):
        return []
    for name, exact in _exact(lab, len(mine)).items():
        ways = {role: next((words for words, whole in whole_numbers(exact) if np.array_equal(whole, seen)), None)
                for role, seen in (("reference", mine), ("candidate", theirs))}  # fmt: skip
        if None not in ways.values() and ways["reference"] != ways["candidate"]:
            departs = next((role for role, way in ways.items() if way == "cut" and name != "1000 times sigma"), "unknown")
            return [Explanation(
                id="timestep-truncated-to-int", departs=departs, explained=1.0,
                statement=f"candidate's timesteps are {ways['candidate']} to integers, the reference's {ways['reference']} ({name})",
                relation={"kind": "rounded", "reference": ways["reference"], "candidate": ways["candidate"]},
                experiment=f"made the real timesteps ({name}) whole in both ways: one gives the reference's, the other the candidate's",
                fix="round timesteps to the nearest integer on both sides")]  # fmt: skip
    return []


def _exact(lab, count: int) -> dict[str, np.ndarray]:
    """Real timesteps before they are made whole: of both sides' sigmas, and of the usual spacings."""
    found = {}
    sigmas = lab.own_value("reference", Place("sigmas"))
    if sigmas is not None and sigmas.numel() >= count and float(sigmas.max()) <= 1 + 1e-6:
        found["1000 times sigma"] = sigmas.double().numpy()[:count] * 1000
    for offset in (0, 1):
        found |= {f"{name} spacing": values for name, values in spacings(count, offset=offset).items()
                  if f"{name} spacing" not in found or offset}  # fmt: skip
    return found


def first_of_finer(finding: Finding, lab, lists) -> list[Explanation]:
    """One side takes the first N entries of a schedule of more steps, the other spreads N over the range."""
    for role in ("candidate", "reference"):
        other = _OTHER[role]
        seen, count = lists[role], _entries(lists[role])
        if count < 2 or lists[other].shape != seen.shape:
            continue
        steps = _by_recipe(lab, other, finding.probe, seen, count) or _by_formula(finding, lists[other], seen, count)
        if steps is None:
            continue
        last = float(seen[count - 1]) * (1000 if finding.probe == "sigmas" and float(seen.max()) <= 1 + 1e-6 else 1)
        one_more = steps == count + 1
        return [Explanation(
            id="penultimate-sigma" if one_more else "lcm-uneven-spread", departs=role, explained=1.0,
            equivalent=["sigma-grid-endpoints", "lcm-uneven-spread", "loop-count-off-by-one"] if one_more else [],
            statement=f"{role}'s {finding.probe} are the first {count} of {steps} and end at {number(round(last, 3))}; the {other}'s are spread "
                      "over the whole range",
            relation={"kind": "first_of_finer", "side": role, "steps": count, "of": steps},
            experiment=f"computed the {other}'s schedule with {steps} steps: its first {count} entries equal the {role}'s",
            fix=f"spread {count} steps over the whole range in the {role}")]  # fmt: skip
    return []


def _entries(values: torch.Tensor) -> int:
    return values.numel() - (1 if values.numel() > 1 and float(values[-1]) == 0.0 and values.is_floating_point() else 0)


def _by_recipe(lab, role: str, probe: str, seen: torch.Tensor, count: int) -> int | None:
    made = recipe(lab, role)
    own = made.schedule().get(probe) if made is not None else None
    if own is None or not same_list(own, lab.own_value(role, Place(probe))):
        return None
    if {"sigmas", "timesteps", "mu"} & set(made.arguments):
        return None  # a list that the pipeline made itself: the formula below knows it
    for steps in dict.fromkeys([count + 1, *(count * k for k in range(2, 11)), *FINER]):
        if steps > count:
            finer = made.with_arguments(num_inference_steps=steps).schedule().get(probe)
            if finer is not None and finer.numel() > count and same_list(finer[:count], seen[:count]):
                return steps
    return None


def _by_formula(finding: Finding, other: torch.Tensor, seen: torch.Tensor, count: int) -> int | None:
    """Unshifted by the other side's shift, the list is 1 - i/M with M above N."""
    if float(other.max()) > 1 + 1e-6 or finding.probe != "sigmas":
        return None
    for shift in [1.0, *_shifts(other)]:
        base = np.asarray(unshift_sigmas(seen[:count].double().numpy(), shift))
        gap = base[0] - base[1]
        steps = round(1 / gap) if gap > 0 else 0
        if steps > count and abs(base[0] - 1) <= 1e-5 and np.abs(base - (1 - np.arange(count) / steps)).max() <= 1e-5:
            return steps
    return None
