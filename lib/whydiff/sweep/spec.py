"""The sweep file: a base case, and what to change in it."""

from __future__ import annotations

import pathlib
from typing import Any

import pydantic

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.case import Expect, parse_yaml

RANGE = ("from", "to", "step")
SHARED = ("call", "build", "python", "settings", "declares")  # keys of a side that may be named once for both


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class Rule(Expect):
    """What is expected, of the cases `where` these settings hold."""

    where: dict[str, Any] = {}
    model_config = pydantic.ConfigDict(extra="forbid")


class Row(_Strict):
    """One case of `list`."""

    name: str | None = None
    sets: dict[str, Any] = pydantic.Field({}, alias="set")
    expect: Any = None


class Spec(_Strict):
    """`base` is a case: a path, or the case itself. `grid` is crossed, `list` comes after it, each on the base alone."""

    title: str = ""
    base: str | dict[str, Any]
    sets: dict[str, Any] = pydantic.Field({}, alias="set")  # for all cases
    grid: dict[str, Any] = {}
    rows: list[Row] = pydantic.Field([], alias="list")
    exclude: list[dict[str, Any]] = []
    name: str | None = None  # of cases of the grid: a template such as "{seed} {size}"
    expect: Any = None
    resources: dict[str, float] = {}  # what a worker must have: {GPU: 1}


def read_spec(path) -> Spec:
    """The sweep file. Raises Trouble with the file, the key and the nearest known one."""
    path = pathlib.Path(path)
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise Trouble(f"{path}: no such sweep.{did_you_mean(path.name, known)}")
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{path}: cannot be read ({error}).") from None
    if not isinstance(data, dict):
        raise Trouble(f"{path}: a sweep is a mapping with the keys base and grid or list; see data/sweeps/.")
    if "reference" in data and "candidate" in data and "base" not in data:
        raise Trouble(f"{path}: this is a case. A sweep has the key base, which names a case, and grid or list; see data/sweeps/.")
    try:
        spec = Spec(**data)
    except pydantic.ValidationError as error:
        raise Trouble(f"{path}: {_first(error)}") from None
    if not spec.grid and not spec.rows:
        raise Trouble(f"{path}: nothing is varied. Give grid: {{KEY: [VALUES]}}, or list: [{{set: {{KEY: VALUE}}}}].")
    return spec


def _first(error: pydantic.ValidationError) -> str:
    """The first problem of a file in words."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key also makes one missing
    *above, key = first["loc"] or ("",)
    spot = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in (Row if above[:1] == ["list"] else Spec).model_fields.items()]
        return f"unknown key {spot!r}.{did_you_mean(key, known) or ' Known: ' + ', '.join(known) + '.'}"
    if first["type"] == "missing":
        return f"the key {spot!r} is missing."
    if above[:1] == ["base"] or key == "base":
        return "base: give the path of a case file, or a case."
    return f"{spot}: {first['msg'].removeprefix('Value error, ')}."


def rules(given: Any, where: str) -> list[Rule]:
    """`expect` as rules, of which the last that fits a case holds: a word, an expectation, or several with `where`."""
    if given is None:
        return []
    entries = given if isinstance(given, list) else [given]
    try:
        return [Rule(**({"verdict": entry} if isinstance(entry, str) else dict(entry))) for entry in entries]
    except pydantic.ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Trouble(f"{where}: unknown key {key!r}.{did_you_mean(key, Rule.model_fields)}") from None
        raise Trouble(f"{where}: {key}: {first['msg']}.") from None
    except (TypeError, ValueError):
        raise Trouble(f"{where}: give a verdict, {{verdict: ..., causes: [...]}}, or a list of such with `where`.") from None


def values_of(axis: str, given: Any, where: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """An axis of the grid: {label: (the value shown, what it sets)}, in the order of the file.

    `[1, 2]` sets the key that the axis is named after; `{from: 1, to: 9, step: 2}` is a range, both ends in it;
    `{label: {KEY: VALUE, ...}}` sets several keys at once.
    """
    if isinstance(given, dict) and given and set(given) <= set(RANGE):
        given = _range(given, f"{where}: grid: {axis}")
    if isinstance(given, dict):
        wrong = next((label for label, sets in given.items() if not isinstance(sets, dict) or not sets), None)
        if wrong is not None or not given:
            raise Trouble(f"{where}: grid: {axis}: give a list of values, a range {{from, to, step}}, or {{LABEL: {{KEY: VALUE}}}}.")
        return {str(label): (str(label), dict(sets)) for label, sets in given.items()}
    if not isinstance(given, list) or not given:
        raise Trouble(f"{where}: grid: {axis}: is {'empty' if given in ([], None) else f'{given!r}'}. Give a list of values.")
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for value in given:
        if repr(value) in found:
            raise Trouble(f"{where}: grid: {axis}: has {value!r} twice.")
        found[repr(value)] = (value, {axis: value})
    return found


def _range(given: dict, where: str) -> list:
    start, stop, step = (given.get(key) for key in RANGE)
    step = 1 if step is None else step
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (start, stop, step))
    if not numbers or step <= 0 or stop < start:
        raise Trouble(f"{where}: a range is {{from: NUMBER, to: a larger one, step: more than 0}}.")
    count = int((stop - start) / step + 1e-9) + 1
    if count > 100_000:
        raise Trouble(f"{where}: a range of {count} values. Use a larger step.")
    whole = all(isinstance(v, int) for v in (start, step))
    return [start + i * step if whole else float(f"{start + i * step:.12g}") for i in range(count)]
