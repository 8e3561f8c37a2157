"""What many verdicts say together: which settings agree, causes by frequency, where differences begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from whydiff.sweep.results import Result

STATES = ("agree", "differ", "trouble")


def state(result: Result) -> str:
    """Trouble is also a verdict that proves nothing."""
    return "agree" if result.agrees and not result.trouble else "differ" if result.verdict == "different" and not result.trouble else "trouble"


@dataclasses.dataclass(frozen=True)
class Share:
    """How the cases that hold one value came out."""

    value: Any
    agree: int
    differ: int
    trouble: int

    @property
    def total(self) -> int:
        return self.agree + self.differ + self.trouble


def counts(results: Iterable[Result]) -> dict[str, int]:
    found = dict.fromkeys(STATES, 0)
    for result in results:
        found[state(result)] += 1
    return found


def axes_of(results: list[Result]) -> dict[str, list[Any]]:
    """Every setting that was varied, with the values it took: numbers by size, others in their order. Those of one value are no axis."""
    found: dict[str, list[Any]] = {}
    for result in results:
        for key, value in result.planned.settings.items():
            values = found.setdefault(key, [])
            if not any(_same(value, other) for other in values):
                values.append(value)
    return {key: sorted(values) if numeric(values) else values for key, values in found.items() if len(values) > 1}


def numeric(values: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def shares(results: list[Result], axis: str, values: list[Any]) -> list[Share]:
    return [Share(value, **counts(r for r in results if holds(r, axis, value))) for value in values]


def holds(result: Result, axis: str, value: Any) -> bool:
    return axis in result.planned.settings and _same(result.planned.settings[axis], value)


def _same(a, b) -> bool:
    """1 is not true, and 1.0 is 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


@dataclasses.dataclass(frozen=True)
class Named:
    """A cause over all cases. `where`: the one setting that exactly these cases have, if there is one."""

    id: str
    cases: list[Result]
    where: str


def causes(results: list[Result], axes: dict[str, list[Any]]) -> list[Named]:
    """By frequency. What no experiment explained counts as `unexplained`."""
    found: dict[str, list[Result]] = {}
    for result in results:
        for id_ in dict.fromkeys([*result.causes, *(["unexplained"] if result.unexplained else [])]):
            found.setdefault(id_, []).append(result)
    done = [result for result in results if state(result) != "trouble"]
    named = [Named(id_, cases, _exactly(cases, done, axes)) for id_, cases in found.items()]
    return sorted(named, key=lambda one: -len(one.cases))


def _exactly(cases: list[Result], done: list[Result], axes: dict[str, list[Any]]) -> str:
    if len(cases) == len(done) and len(done) > 1:
        return "in every case"
    names = {result.name for result in cases}
    for axis, values in axes.items():
        held = [value for value in values if any(holds(r, axis, value) for r in cases)]
        if len(held) < len(values) and names == {r.name for r in done if any(holds(r, axis, value) for value in held)}:
            words = " or ".join(str(value) for value in held) if len(held) <= 4 else f"{len(held)} of its {len(values)} values"
            return f"exactly where {axis} is {words}"
    return ""


def matters(results: list[Result], axis: str) -> bool | None:
    """Do cases that differ in this setting alone come out differently? None where there are no two such cases."""
    done = [r for r in results if state(r) != "trouble" and axis in r.planned.settings]
    lines = [line for line in _lines(done, axis) if len(line) > 1]
    return any(len({state(r) for r in line}) > 1 for line in lines) if lines else None


def boundary(results: list[Result], axis: str, values: list[Any]) -> str:
    """What a setting does, in a sentence: nothing, or, for numbers, the smallest value at which a difference appears."""
    done = [r for r in results if state(r) != "trouble" and axis in r.planned.settings]
    weight = matters(results, axis)
    if not done or weight is None:
        return ""
    if not weight and 0 < sum(state(r) == "differ" for r in done) < len(done):
        return "it does not matter: with the other settings kept, all its values come out alike"
    if not numeric(values):
        return ""
    begins = [first for first in map(_begins(axis), _lines(done, axis)) if first is not None]
    smallest = min((r.planned.settings[axis] for r in done if state(r) == "differ"), default=None)
    if smallest is None:
        return "no difference at any value"
    if all(state(r) == "differ" for r in done):
        return f"differs at every value, from {smallest} to {values[-1]}"
    words = f"the difference appears first at {smallest}"
    if len(begins) > 1 and len(set(begins)) > 1:
        words += f" ({min(begins)} to {max(begins)}, depending on the other settings)"
    returns = any(state(r) == "agree" for line in _lines(done, axis) if (first := _begins(axis)(line)) is not None
                  for r in line if r.planned.settings[axis] > first)  # fmt: skip
    if smallest == values[-1]:
        return words
    return words + (", but is not there at every larger one" if returns else ", and stays at every larger one")


def _lines(done: list[Result], axis: str) -> list[list[Result]]:
    """Cases that differ in this setting alone, from the smallest value on."""
    found: dict[str, list[Result]] = {}
    for result in done:
        others = {key: value for key, value in result.planned.settings.items() if key != axis}
        found.setdefault(repr(sorted(others.items(), key=lambda kv: kv[0])), []).append(result)
    held = [r.planned.settings[axis] for r in done]
    return [sorted(line, key=lambda r: r.planned.settings[axis]) if numeric(held) else line for line in found.values()]


def _begins(axis: str):
    return lambda line: next((r.planned.settings[axis] for r in line if state(r) == "differ"), None)
