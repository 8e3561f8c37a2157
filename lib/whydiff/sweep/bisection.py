"""The value of one key at which the verdict flips, found in logarithmically many runs: both ends, then the middle, again and again."""

from __future__ import annotations

import dataclasses
from typing import Any

from whydiff.errors import Trouble, did_you_mean
from whydiff.sweep.grid import Plan, Planned
from whydiff.sweep.results import Result


@dataclasses.dataclass
class Bisection:
    """One search: the cases along the key, the other settings being `others`."""

    key: str
    others: dict[str, Any]
    cases: list[Planned]
    known: dict[int, Result] = dataclasses.field(default_factory=dict)

    def ends(self) -> list[Planned]:
        return [self.cases[0], self.cases[-1]]

    def next(self, result: Result) -> list[Planned]:
        """The case to run after this one; none while the other end is awaited, or at the end."""
        index = next(i for i, planned in enumerate(self.cases) if planned.name == result.name)
        self.known[index] = result
        low, high = self._bounds()
        if low is None or high - low < 2:
            return []
        return [self.cases[(low + high) // 2]]

    def _bounds(self) -> tuple[int | None, int]:
        """The two neighbours among the runs between which the verdict flips; (None, 0) where that is not, or not yet, known."""
        ran = sorted(self.known)
        last = len(self.cases) - 1
        if not {0, last} <= set(ran) or any(result.trouble for result in self.known.values()):
            return None, 0
        if self.known[0].agrees == self.known[last].agrees:
            return None, 0
        flip = next(i for i, (a, b) in enumerate(zip(ran, ran[1:], strict=False)) if self.known[a].agrees != self.known[b].agrees)
        return ran[flip], ran[flip + 1]

    @property
    def flips(self) -> tuple[Any, Any] | None:
        """(the last value of the one verdict, the first of the other)."""
        low, high = self._bounds()
        return None if low is None or high - low > 1 else (self.value(low), self.value(high))

    def value(self, index: int) -> Any:
        return self.cases[index].settings[self.key]

    def word(self) -> str:
        """What was found, in a sentence."""
        at = " ".join(f"{key}={value}" for key, value in self.others.items())
        runs = f"{len(self.known)} of {len(self.cases)} cases run"
        head = f"{self.key}{f' with {at}' if at else ''}: "
        wrong = next((result for result in self.known.values() if result.trouble), None)
        if wrong is not None:
            return f"{head}not found, as {wrong.name} ended in trouble ({runs})"
        if self.flips is not None:
            low, high = self.flips
            return f"{head}{_said(self.known[self._bounds()[0]])} up to {low}, {_said(self.known[self._bounds()[1]])} from {high} on ({runs})"
        if len(self.known) < 2 and len(self.cases) > 1:
            return f"{head}not finished ({runs})"
        first, last = self.value(0), self.value(len(self.cases) - 1)
        if self.known.get(0) is not None and len(self.cases) - 1 in self.known and self.known[0].agrees == self.known[len(self.cases) - 1].agrees:
            return (f"{head}does not flip between its ends: both {first} and {last} {_said(self.known[0])}; if it flips in between, it does so "
                    f"more than once, which bisection cannot find ({runs})")  # fmt: skip
        return f"{head}not finished ({runs})"


def _said(result: Result) -> str:
    return "agree" if result.agrees else "differ"


def bisections(plan: Plan, key: str, where: str) -> list[Bisection]:
    """A search for each combination of the other settings. Raises Trouble where the grid has no such key, or too few values of it."""
    if key not in plan.axes:
        known = did_you_mean(key, plan.axes) or f" It varies: {', '.join(plan.axes) or 'nothing'}."
        raise Trouble(f"--bisect {key}: the grid of {where} does not vary it.{known}")
    if len(plan.axes[key]) < 3:
        raise Trouble(f"--bisect {key}: has {len(plan.axes[key])} values; with fewer than 3 there is nothing to search. Run the sweep as it is.")
    found: dict[str, Bisection] = {}
    for planned in plan.cases:
        if set(planned.settings) == set(plan.axes):  # a case of the grid
            others = {axis: value for axis, value in planned.settings.items() if axis != key}
            found.setdefault(repr(others), Bisection(key, others, [])).cases.append(planned)
    order = {repr(value): i for i, value in enumerate(plan.axes[key])}
    for search in found.values():
        search.cases.sort(key=lambda planned: order[repr(planned.settings[key])])
    return [search for search in found.values() if len(search.cases) > 1]
