"""Does a network react to all of its inputs? One that does not react to an input computes with a constant in its place."""

from __future__ import annotations

import dataclasses
import math
import time

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.between import Between
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import as_passed, bound, distance, tensors_in

SECONDS = 5.0  # for a search; networks too large for it have their constant among the likely ones, or stay unexplained
GRID = 4  # units: the fastest waves of a time embedding are 6 units long
STEPS, NEAR = 8, 0.01  # of a solution by steps, and how near its output must come
WRITTEN = tuple(i / 10 for i in range(1, 301))  # what people write where a scale is asked for
OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """Only whole networks have arguments that callers know by name."""
    if not inside.can_run or "/" in inside.name:
        return None
    for name, value in inside.calls["reference"].inputs.items():
        if not isinstance(value, torch.Tensor) or not value.numel():
            continue
        deaf = [role for role in OTHER if not _reacts(inside, role, name, value)]
        if len(deaf) != 1:
            continue
        found = _confirmed(inside, deaf[0], name, value, lab)
        if found is not None:
            return found
        inside.found = f"{deaf[0]}'s {inside.names[deaf[0]]} does not react to {name}"
    return None


def _reacts(inside: Inside, role: str, name: str, value: torch.Tensor) -> bool:
    if not value.is_floating_point():
        moved = ~value if value.dtype == torch.bool else value.flip(-1) + 1 if value.dim() else value + 1
    else:
        moved = value * 1.37 + 0.11
    before, after = inside.outputs()[role], with_argument(inside, role, name, moved)
    return after is None or distance(before, after) != 0.0


def with_argument(inside: Inside, role: str, name: str, value):
    """The output of a side's network with one argument changed; None where it cannot run so."""
    if isinstance(inside, Between) and name not in inside.calls[role].inputs:
        return None  # each side runs on its own inputs there
    calls = {}
    for side, call in inside.calls.items():
        own = call if name not in call.inputs else dataclasses.replace(call, inputs=call.inputs | {name: value})
        args, kwargs = _rebuilt(inside.modules[side], own, name, value) if name in call.inputs else (call.args, call.kwargs)
        calls[side] = dataclasses.replace(own, args=args, kwargs=kwargs)
    changed = dataclasses.replace(inside, calls=calls)
    try:
        return changed.run(role)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None


def _rebuilt(module, call, name, value):
    signature, received = bound(module, call.args, call.kwargs)
    received[name] = value
    return (call.args, call.kwargs | {name: value}) if signature is None else as_passed(signature, received, call.args, call.kwargs)


def _confirmed(inside: Inside, deaf: str, name: str, value: torch.Tensor, lab) -> Explanation | None:
    """Which constant makes the other side's network put out the same? Values of other steps, and what its modules received."""
    hears = OTHER[deaf]
    target = inside.outputs()[deaf]
    for constant, words in _constants(inside, name, value, lab):
        after = with_argument(inside, hears, name, constant)
        if after is None or not inside.closes(target, after):
            continue
        mask = "mask" in name
        number = float(constant.flatten()[0]) if constant is not None and constant.numel() and not mask else None
        return Explanation(
            id="attention-mask-dropped" if mask else "export-constant-folded", departs=deaf, module=inside.name, explained=1.0,
            statement=f"the {deaf}'s {inside.names[deaf]} does not react to {name}: it computes with {words}",
            relation={"kind": "constant_input", "argument": name, "side": deaf, "value": number},
            experiment=f"changed {name}: the {deaf}'s output stays the same bit for bit; with {words} the {hears} puts out what the {deaf} does",
            fix=f"let {name} reach {inside.names[deaf]} in the {deaf} instead of a constant")  # fmt: skip
    return None


def _constants(inside: Inside, name: str, value: torch.Tensor, lab):
    if "mask" in name:
        yield torch.ones_like(value), f"a {name} of ones"
        yield None, f"no {name}"
        return
    seen = lab.traces["reference"]
    for place in seen:
        if place.probe != f"model_input/{name}" or not seen[place].numel():
            continue
        other = seen[place].to(value)
        if other.shape != value.shape:  # one branch of guidance of a call that holds both
            other = torch.full_like(value, other.flatten()[0].item())
        if not torch.equal(other, value):
            yield other, f"that of step {place.step}"
    if not value.is_floating_point() and value.numel() > 1:
        return
    for mine, theirs in zip(*inside.received) if inside.received else ():
        mine, theirs = mine.double().flatten(), theirs.double().flatten()
        if mine.numel() == theirs.numel() and mine.all() and (len(set((theirs / mine).tolist())) == 1):
            yield (value.double() * (theirs / mine)[0]).to(value.dtype), "a constant"
    for number in (0.0, 1.0, 0.5, 1000.0, 999.0, 500.0):
        yield torch.full_like(value, number), f"the constant {number:g}"
    if value.is_floating_point() and not (value - value.flatten()[0]).any() and value.abs().max() <= WRITTEN[-1]:
        until = time.thread_time() + SECONDS
        for number in WRITTEN:
            if time.thread_time() > until:
                break
            yield torch.full_like(value, number), f"the constant {number:g}"
    yield from _searched(inside, name, value)


def _searched(inside: Inside, name: str, value: torch.Tensor):
    """Whole units up to 1000 (thousandths up to 1) near the best points of a coarse grid, then the numbers solved for from there.

    Whole ones first: a network that repeats itself has many solutions, and people write whole ones.
    """
    deaf = next((role for role in OTHER if not _reacts(inside, role, name, value)), None)
    if deaf is None or not value.any():
        return
    target, until = inside.outputs()[deaf], time.thread_time() + SECONDS
    unit = 1.0 if value.abs().max() > 1 else 1e-3
    gaps: dict[int, float] = {}

    def made(number: float):
        return with_argument(inside, OTHER[deaf], name, torch.full_like(value, number))

    def best(count: int) -> list[int]:
        return sorted(gaps, key=gaps.get)[:count]

    def look(numbers) -> None:
        for number in numbers:
            if number not in gaps and 0 <= number <= 1000 and time.thread_time() < until:
                after = made(number * unit)
                gaps[number] = distance(target, after) if after is not None else math.inf

    look(range(0, 1001, GRID))
    for near in best(12):
        look(range(near - GRID + 1, near + GRID))
    yield from (_constant(value, number * unit) for number in best(4))
    for near in best(6) if value.is_floating_point() else ():
        number = _solved(made, target, near * unit, unit)
        if number is not None:
            yield from (_constant(value, n) for n in (round(number / unit) * unit, number))


def _constant(value: torch.Tensor, number: float) -> tuple[torch.Tensor, str]:
    return torch.full_like(value, number), f"the constant {number:g}"


def _solved(made, target, start: float, unit: float) -> float | None:
    """The number near `start` with which a network puts out `target`, nearly or exactly; None where none is near.

    Gauss-Newton steps: there is nothing left at the solution, so they end on the very number that was written or traced.
    """
    wanted = _flat(target)
    number, last = start, math.inf
    for _ in range(STEPS):
        here, ahead = made(number), made(number + 0.02 * unit)
        if here is None or ahead is None:
            return None
        slope, left = (_flat(ahead) - _flat(here)) / (0.02 * unit), wanted - _flat(here)
        if not slope.isfinite().all() or not slope.any() or not left.any():
            break
        step = (slope @ left / (slope @ slope)).item()
        if abs(step) > 16 * unit or left.norm() > 1.2 * last:
            return None
        last = left.norm().item()
        number += step
        if abs(step) < 1e-7 * abs(number):
            break
    return number if last < NEAR * wanted.norm() or start == number else None


def _flat(output) -> torch.Tensor:
    return torch.cat([t.double().flatten() for t in tensors_in(output)])
