"""The cases that a sweep file stands for, each whole and checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import re
from typing import Any

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.case import Case, Expect, make_case, parse_yaml, set_key
from whydiff.sweep.spec import SHARED, Rule, Spec, read_spec, rules, values_of

MOST = 20_000  # cases of one sweep
LONGEST = 110  # characters of a name, which is also a folder's


@dataclasses.dataclass(frozen=True)
class Planned:
    """One case of a sweep. `settings`: what was varied, as shown; `data`: the case file's content; paths are relative to `folder`."""

    name: str
    settings: dict[str, Any]
    data: dict
    folder: pathlib.Path
    expect: Expect | None

    def case(self) -> Case:
        case = make_case(self.data, self.name)
        case.path = str(self.folder / f"{self.name}.yaml")
        return case


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep file, read. `axes`: the values of each axis of the grid, in their order."""

    title: str
    cases: list[Planned]
    axes: dict[str, list[Any]]
    resources: dict[str, float]


def plan(path) -> Plan:
    """Expand a sweep file. Raises Trouble for the first thing that is wrong with it, or with any of its cases."""
    path = pathlib.Path(path)
    spec = read_spec(path)
    base, folder = _base(spec, path)
    axes = {axis: values_of(axis, given, str(path)) for axis, given in spec.grid.items()}
    total = math.prod(len(values) for values in axes.values()) + len(spec.rows)
    if total > MOST:
        raise Trouble(f"{path}: that is {total} cases; at most {MOST} go into one sweep. Split it.")
    excluded = _excluded(spec, axes, path)
    expected = rules(spec.expect, f"{path}: expect")
    _known(expected, axes, spec, path)
    found: list[Planned] = []
    names = _names(axes)
    for labels in itertools.product(*axes.values()) if axes else ():
        shown = {axis: axes[axis][label][0] for axis, label in zip(axes, labels, strict=True)}
        sets: dict[str, Any] = {}
        for axis, label in zip(axes, labels, strict=True):
            sets |= axes[axis][label][1]
        if any(_fits(entry, shown, sets) for entry in excluded):
            continue
        name = _templated(spec.name, shown, path) if spec.name else ",".join(names[axis][label] for axis, label in zip(axes, labels, strict=True))
        found.append(_planned(spec, base, folder, _safe(name), shown, sets, expected, path))
    if spec.grid and not found:
        raise Trouble(f"{path}: the grid is empty: exclude leaves none of its cases.")
    for number, row in enumerate(spec.rows, 1):
        name = row.name or ",".join(f"{_short(k, row.sets)}={_word(v)}" for k, v in row.sets.items()) or f"case {number}"
        wanted = rules(row.expect, f"{path}: list, case {number}: expect") if row.expect is not None else expected
        found.append(_planned(spec, base, folder, _safe(name), dict(row.sets), row.sets, wanted, path))
    _distinct(found, path)
    return Plan(spec.title or path.stem, found, {axis: [value for value, _ in values.values()] for axis, values in axes.items()}, spec.resources)


# --- one case --------------------------------------------------------------------------------------------------------


def _base(spec: Spec, path: pathlib.Path) -> tuple[dict, pathlib.Path]:
    """The content of the base case, and the folder that its paths are relative to."""
    if isinstance(spec.base, dict):
        return spec.base, path.resolve().parent
    file = path.parent / spec.base
    if not file.is_file():
        known = sorted(p.name for p in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        raise Trouble(f"{path}: base: {file} does not exist.{did_you_mean(file.name, known)}")
    data = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(data, dict):
        raise Trouble(f"{path}: base: {file} is no case: it has no keys.")
    return data, file.resolve().parent


def _planned(spec: Spec, base: dict, folder: pathlib.Path, name: str, shown: dict, sets: dict, expected: list[Rule], path) -> Planned:
    data = _own(base)
    for key, value in {**spec.sets, **sets}.items():
        for spelled in _spelled(key, data):
            set_key(data, spelled, _own(value), f"{path}: case {name!r}", said="")
    if expected and (rule := next((r for r in reversed(expected) if _fits(r.where, shown, sets)), None)) is not None:
        data["expect"] = rule.model_dump(exclude={"where"}, exclude_none=True)
    case = make_case(data, f"{path}: case {name!r}")
    return Planned(name, shown, data, folder, case.expect)


def _spelled(key: str, data: dict) -> list[str]:
    """The keys of the case that a key of a sweep stands for: `call.height` is that of both sides that run."""
    head = key.partition(".")[0]
    if head not in SHARED:
        return [key]
    needs = "live" if head in ("call", "build", "python") else ""
    return [f"{role}.{key}" for role in ("reference", "candidate") if not needs or needs in (data.get(role) or {})] or [f"reference.{key}"]


def _own(value):
    """A copy in which nothing is shared: what a YAML file names by an anchor is changed on one side alone."""
    if isinstance(value, dict):
        return {key: _own(inner) for key, inner in value.items()}
    return [_own(inner) for inner in value] if isinstance(value, list) else value


# --- which -----------------------------------------------------------------------------------------------------------


def _fits(where: dict, shown: dict, sets: dict) -> bool:
    """Does a case have all these settings? A list means any of its values."""
    held = {**sets, **shown}
    return all(key in held and (held[key] == value or (isinstance(value, list) and held[key] in value)) for key, value in where.items())


def _excluded(spec: Spec, axes: dict, path) -> list[dict]:
    for number, entry in enumerate(spec.exclude, 1):
        known = {key for values in axes.values() for _, sets in values.values() for key in sets} | set(axes)
        wrong = next((key for key in entry if key not in known), None)
        if wrong is not None or not entry:
            raise Trouble(f"{path}: exclude, entry {number}: {wrong!r} is not varied by the grid.{did_you_mean(wrong or '', known)}")
        for key, value in entry.items():
            held = [v for values in axes.values() for shown, sets in values.values() for v in (sets.get(key), shown if key in axes else None)]
            for one in value if isinstance(value, list) and value not in held else [value]:
                if one not in held:
                    raise Trouble(f"{path}: exclude, entry {number}: the grid has no {key} of {one!r}.")
    return spec.exclude


def _known(expected: list[Rule], axes: dict, spec: Spec, path) -> None:
    known = {key for values in axes.values() for _, sets in values.values() for key in sets} | set(axes) | {k for row in spec.rows for k in row.sets}
    for key in (key for rule in expected for key in rule.where if key not in known):
        raise Trouble(f"{path}: expect: where: {key!r} is not varied.{did_you_mean(key, known)}")


# --- names -----------------------------------------------------------------------------------------------------------


def _names(axes: dict) -> dict[str, dict[str, str]]:
    """For each axis and value the part of a case's name: `shift=3`; by number where words would not tell values apart."""
    found = {}
    for axis, values in axes.items():
        words = [_word(shown) for shown, _ in values.values()]
        if len(set(map(str.lower, words))) < len(words):  # some file systems do not tell upper from lower case
            words = [str(number) for number in range(1, len(words) + 1)]
        found[axis] = dict(zip(values, (f"{_short(axis, axes)}={word}" for word in words), strict=True))
    return found


def _short(key: str, keys) -> str:
    """The last part of a key, with as many before it as tell it from the others."""
    parts = key.split(".")
    for n in range(1, len(parts)):
        tail = ".".join(parts[-n:])
        if sum(other == tail or other.endswith("." + tail) for other in keys) == 1:
            return tail
    return key


def _word(value) -> str:
    text = re.sub(r"[^\w.+-]+", "-", str(value)).strip("-.")
    return text if len(text) <= 24 else text[:24].rstrip("-.")


def _templated(template: str, shown: dict, path) -> str:
    known = {_short(axis, shown): value for axis, value in shown.items()} | shown

    def filled(match) -> str:
        if match[1] not in known:
            raise Trouble(f"{path}: name: {{{match[1]}}} is not varied by the grid.{did_you_mean(match[1], known)}")
        return _word(known[match[1]])

    return re.sub(r"\{([^{}]+)\}", filled, template)


def _safe(name: str) -> str:
    """A name that may be a folder's on any system."""
    return re.sub(r"[^\w.,=+ -]+", "-", name).strip(" .-")[:LONGEST].rstrip(" .-") or "case"


def _distinct(found: list[Planned], path) -> None:
    names: dict[str, Planned] = {}
    for planned in found:
        other = names.setdefault(planned.name.lower(), planned)
        if other is not planned:
            raise Trouble(f"{path}: two cases are called {planned.name!r} ({_told(other)}, and {_told(planned)}). "
                          "Give list entries a name, or name more settings in `name`.")  # fmt: skip


def _told(planned: Planned) -> str:
    return " ".join(f"{key}={value}" for key, value in planned.settings.items()) or "nothing set"
