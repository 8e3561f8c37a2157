"""Two answers of the atlas side by side, and models whose weights run with another schedule elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

from whydiff.errors import Trouble
from whydiff.evidence.atlas.keys import KEYS, equal
from whydiff.evidence.surroundings.defaults import Fact, atlas, defaults_of, known_version, models_of


@dataclasses.dataclass(frozen=True)
class Row:
    """One key of two answers; None where one of them does not know it. `same` is None unless both do."""

    key: str
    one: Fact | None
    other: Fact | None
    same: bool | None


def compare_defaults(ones: list[Fact], others: list[Fact]) -> list[Row]:
    """A row for each key and path that either answer has: what differs first, then what one lacks, then what is equal."""
    left = {(fact.key, fact.when): fact for fact in ones}
    right = {(fact.key, fact.when): fact for fact in others}
    rows = []
    for key in dict.fromkeys([*left, *right]):
        one, other = left.get(key), right.get(key)
        same = equal(key[0], one.value, other.value) if one and other else None
        rows.append(Row(key[0], one, other, same))
    return sorted(rows, key=lambda row: {False: 0, None: 1, True: 2}[row.same])


@dataclasses.dataclass(frozen=True)
class Clash:
    """A key of the schedule on which frameworks do not agree for the same weights: [(value, [framework and version])]."""

    key: str
    values: list[tuple[Any, list[str]]]

    def __str__(self) -> str:
        return f"{self.key} is " + ", ".join(f"{_say(value)} in {' and '.join(where)}" for value, where in self.values)


def schedule_clashes(model: str, pinned: dict[str, str | None] | None = None) -> list[Clash]:
    """Where the frameworks that know a model would walk other noise levels, nothing being specified.

    `pinned`: {framework: version} for those that are not to be taken in their newest version. The scheduler's class is left
    out: different names may do the same. A key that one framework does not state is no clash.
    """
    found: dict[str, list[tuple[Any, list[str]]]] = {}
    for name, framework in atlas().frameworks.items():
        if model not in models_of(framework):
            continue
        version = (pinned or {}).get(name)
        try:
            facts, used = defaults_of(name, version, model), known_version(name, version, model)
        except Trouble:  # not in that version
            continue
        for fact in facts:
            if KEYS[fact.key].group == "schedule" and fact.key != "scheduler" and fact.value is not None:
                _sort_in(found.setdefault(fact.key, []), fact, f"{name} {used}")
    return [Clash(key, values) for key, values in found.items() if len(values) > 1]


def _sort_in(values: list[tuple[Any, list[str]]], fact: Fact, where: str) -> None:
    for value, places in values:
        if equal(fact.key, value, fact.value):
            places.append(where)
            return
    values.append((fact.value, [where]))


def _say(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
