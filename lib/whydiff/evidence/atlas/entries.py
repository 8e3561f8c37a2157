"""Reading `data/facts/*.json`: every file is checked, so that a wrong entry is one clear line and never a wrong answer."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.atlas.keys import KEYS, complaint, equal
from whydiff.evidence.atlas.versions import Version

_HEAD = {"framework", "about", "also", "versions", "names", "entries"}
_REQUIRED = {"models", "key", "value", "from", "to", "source"}
_FIELDS = _REQUIRED | {"unit", "called", "when", "note", "check"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One default. `first` to `last`: the versions in which it holds, None where that end is open; `sources`: version -> place,
    or {"": place} for all of them; `called`: the framework's own name; `when`: the path on which alone it holds; `check`: the
    live place to compare with (see live.py); `file`: where it is written."""

    framework: str
    models: tuple[str, ...]
    key: str
    value: Any
    first: str | None
    last: str | None
    sources: dict[str, str]
    called: str = ""
    when: str = ""
    note: str = ""
    check: str = ""
    file: str = ""

    @property
    def unit(self) -> str:
        return KEYS[self.key].unit


@dataclasses.dataclass(frozen=True)
class Framework:
    """All that is known about one framework. `versions` are oldest first; `names`: other names of models -> ours."""

    name: str
    about: str
    also: tuple[str, ...]
    versions: tuple[Version, ...]
    entries: tuple[Entry, ...]

    def span(self, entry: Entry) -> tuple[float, float]:
        """First and last place of an entry among the versions; an open end is infinite."""
        places = {version.name: i for i, version in enumerate(self.versions)}
        return (places[entry.first] if entry.first else float("-inf"), places[entry.last] if entry.last else float("inf"))

    def branch(self, entry: Entry) -> str:
        named = entry.first or entry.last
        return next((version.branch for version in self.versions if version.name == named), "")


@dataclasses.dataclass(frozen=True)
class Atlas:
    """Every framework by its name, and other names of models in lower case -> ours."""

    frameworks: dict[str, Framework]
    names: dict[str, str]

    @property
    def models(self) -> list[str]:
        return sorted({model for one in self.frameworks.values() for entry in one.entries for model in entry.models}, key=str.lower)


def read(folder: str | os.PathLike) -> Atlas:
    """The atlas in a folder. Raises Trouble that names the file and the entry for whatever is not as data/facts/README.md says."""
    files = sorted(pathlib.Path(folder).glob("*.json"))
    if not files:
        raise Trouble(f"{folder} holds no facts (*.json). Set WHYDIFF_DATA to the data folder of a whydiff checkout.")
    return _read(tuple((str(path), path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=4)
def _read(files: tuple[tuple[str, int], ...]) -> Atlas:
    parts: dict[str, list[tuple[str, dict]]] = {}
    for path, _ in files:
        part = _load(path)
        parts.setdefault(part["framework"], []).append((pathlib.Path(path).name, part))
    names = {other.lower(): ours for found in parts.values() for _, part in found for other, ours in part.get("names", {}).items()}
    return Atlas({name: _framework(name, found) for name, found in parts.items()}, names)


def _load(path: str) -> dict:
    name = pathlib.Path(path).name
    try:
        part = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Trouble(f"{path} cannot be read ({error}).") from None
    if not isinstance(part, dict) or not isinstance(part.get("framework"), str) or not isinstance(part.get("entries"), list):
        raise Trouble(f'{name}: is not {{"framework": "...", "entries": [...]}}. See data/facts/README.md.')
    for key in part:
        if key not in _HEAD:
            raise Trouble(f"{name}: unknown field {key!r}.{did_you_mean(key, _HEAD)}")
    return part


def _framework(name: str, parts: list[tuple[str, dict]]) -> Framework:
    heads = [(file, part) for file, part in parts if part.get("versions")]
    if len(heads) != 1:
        raise Trouble(f"{name}: its versions, oldest first, have to stand in one of its files; they stand in "
                      f"{', '.join(file for file, _ in heads) or 'none of ' + ', '.join(file for file, _ in parts)}.")  # fmt: skip
    file, head = heads[0]
    try:
        versions = tuple(Version(row["version"], row["source"], row.get("date", ""), row.get("branch", ""),
                                 tuple(row.get("also", ()))) for row in head["versions"])  # fmt: skip
    except (KeyError, TypeError):
        raise Trouble(f"{file}: every version needs `version` and `source`.") from None
    entries = tuple(_entry(name, file, i, row, versions) for file, part in parts for i, row in enumerate(part["entries"], 1))
    framework = Framework(name, head.get("about", ""), tuple(head.get("also", ())), versions, entries)
    _contradictions(framework)
    return framework


def _entry(framework: str, file: str, number: int, row: Any, versions: tuple[Version, ...]) -> Entry:
    place = f"{file}: entry {number}"
    if not isinstance(row, dict):
        raise Trouble(f"{place} is not an object.")
    if isinstance(row.get("models"), list) and row.get("key"):
        place += f" ({', '.join(map(str, row['models'][:2]))}, {row['key']})"
    for field in sorted(_REQUIRED - row.keys()):
        raise Trouble(f"{place} has no {field!r}.")
    for field in row.keys() - _FIELDS:
        raise Trouble(f"{place}: unknown field {field!r}.{did_you_mean(field, _FIELDS)}")
    if not isinstance(row["models"], list) or not row["models"] or not all(isinstance(m, str) and m for m in row["models"]):
        raise Trouble(f"{place}: `models` is a list of one or more names.")
    if row["key"] not in KEYS:
        raise Trouble(f"{place}: unknown key {row['key']!r}.{did_you_mean(row['key'], KEYS)}")
    wrong = complaint(row["key"], row["value"])
    if wrong:
        raise Trouble(f"{place}: {wrong}.")
    if row.get("unit", "") != KEYS[row["key"]].unit:
        raise Trouble(f"{place}: its unit is {KEYS[row['key']].unit!r}, not {row.get('unit', '')!r}.")
    _known_range(place, row, versions)
    sources = row["source"] if isinstance(row["source"], dict) else {"": row["source"]}
    for version, source in sources.items():
        if not isinstance(source, str) or not source.strip():
            raise Trouble(f"{place}: the source{f' for {version}' if version else ''} is empty.")
        if version and version not in [known.name for known in versions]:
            raise Trouble(f"{place}: a source for {version!r}, which is no version of {framework}.")
    return Entry(framework, tuple(row["models"]), row["key"], row["value"], row["from"], row["to"], sources,
                 *(row.get(field, "") for field in ("called", "when", "note", "check")), file=file)  # fmt: skip


def _known_range(place: str, row: dict, versions: tuple[Version, ...]) -> None:
    names = [version.name for version in versions]
    for field in ("from", "to"):
        if row[field] is not None and row[field] not in names:
            raise Trouble(f"{place}: {field} {row[field]!r} is none of the versions{did_you_mean(row[field], names) or ':'} "
                          f"{', '.join(names)}.")  # fmt: skip
    if row["from"] and row["to"]:
        first, last = names.index(row["from"]), names.index(row["to"])
        if first > last or versions[first].branch != versions[last].branch:
            raise Trouble(f"{place}: {row['from']} to {row['to']} is no range: the versions stand oldest first, branch by branch.")


def _contradictions(framework: Framework) -> None:
    """Two values for one key of one model, on the same path, in versions that overlap."""
    seen: dict[tuple, list[Entry]] = {}
    for entry in framework.entries:
        for model in entry.models:
            others = seen.setdefault((model.lower(), entry.key, entry.when, framework.branch(entry)), [])
            for other in others:
                (first, last), (first_2, last_2) = framework.span(entry), framework.span(other)
                if first <= last_2 and first_2 <= last:
                    word = "stands twice" if equal(entry.key, entry.value, other.value) else "has two values"
                    raise Trouble(f"{framework.name}: {entry.key} of {model} {word} for the same versions: {other.value!r} "
                                  f"({other.file}) and {entry.value!r} ({entry.file}).")  # fmt: skip
            others.append(entry)
