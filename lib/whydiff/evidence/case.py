"""A case: the question, the two sides, and where their evidence lies. Read from YAML, or made from live objects."""

from __future__ import annotations

import itertools
import os
import pathlib
import shutil
from typing import Any, Literal

import pydantic

from whydiff import limits
from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.case_bundle import refuse_what_runs

DECLARABLE = ("dtype", "attention", "quantization", "compile", "tf32", "cache")
Verdicts = Literal["same", "within_noise", "precision", "different", "incomparable", "vacuous"]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Live(_Strict):
    """A side that can be run: `entry` is FILE.py:FUNCTION, called as FUNCTION(**build), its result called with `call`.

    `python`: the interpreter that it runs in, if not this one; a path, relative to the case.
    """

    entry: str
    build: dict[str, Any] = {}
    call: dict[str, Any] = {}
    python: str | None = None
    object: Any = pydantic.Field(None, exclude=True)  # the side itself, when a caller hands over live objects


class Defaults(_Strict):
    framework: str
    version: str | None = None
    model: str


class Side(_Strict):
    name: str = ""
    live: Live | None = None
    trace: str | None = None
    injected: list[str] = []  # traces of further runs of this side, with the other side's tensors put in
    settings: dict[str, Any] = {}
    image: str | None = None
    defaults: Defaults | None = None
    declares: dict[str, Any] = {}

    @pydantic.field_validator("injected", mode="before")
    @classmethod
    def _one(cls, value):
        return [value] if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _check(self):
        if not (self.live or self.trace or self.settings or self.image or self.defaults):
            raise ValueError("needs at least one of live, trace, settings, image")
        for key, value in self.declares.items():
            if key not in DECLARABLE:
                raise ValueError(f"declares.{key}: unknown.{did_you_mean(key, DECLARABLE)} "
                                 f"Known: {', '.join(DECLARABLE)}")  # fmt: skip
            if not isinstance(value, (str, bool)) and not isinstance(value, dict):
                raise ValueError(f"declares.{key}: a string, or {{component: string}}")
        return self

    @property
    def declared(self) -> dict[str, Any]:
        """What this side departs in on purpose: `declares`, and the same keys in `settings`."""
        return {key: self.settings[key] for key in DECLARABLE if key in self.settings} | self.declares


class Record(_Strict):
    modules: list[str] = []
    steps: list[int] | None = None


class Expect(_Strict):
    verdict: Verdicts | None = None
    causes: list[str] | None = None


class Case(_Strict):
    title: str = ""
    question: str = "Why do the two outputs differ?"
    reference: Side
    candidate: Side
    record: Record = Record()
    names: dict[str, str] = {}  # the reference's name of a recorded tensor: the candidate's; comes before what is paired by itself
    expect: Expect | None = None
    path: Any = pydantic.Field(None, exclude=True)

    @pydantic.field_validator("expect", mode="before")
    @classmethod
    def _word(cls, value):
        return {"verdict": value} if isinstance(value, str) else value

    @property
    def name(self) -> str:
        return pathlib.Path(self.path).stem if self.path else (self.title or "case")

    @property
    def folder(self) -> pathlib.Path:
        return pathlib.Path(self.path).resolve().parent if self.path else pathlib.Path.cwd()

    def resolve(self, path: str) -> pathlib.Path:
        """A path of the case file, relative to it."""
        return (self.folder / path).resolve()

    def refuse_missing(self) -> None:
        """Raises Trouble where a live side's file is not there: said before anything is imported."""
        for role in ("reference", "candidate"):
            live = getattr(self, role).live
            if live is not None and live.object is None:
                entry_file(live.entry, role, self.resolve)

    def interpreter(self, python: str) -> pathlib.Path:
        """The interpreter that `live.python` names: a path relative to the case, or a program on the search path.

        A link is not followed: it is what makes a virtual environment.
        """
        found = None if os.sep in python or (self.folder / python).exists() else shutil.which(python)
        return pathlib.Path(os.path.abspath(found or self.folder / pathlib.Path(python).expanduser()))

    def sides(self) -> dict[str, Side]:
        return {"reference": self.reference, "candidate": self.candidate}


_OPENS = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse_yaml(text: str, where: str):
    """YAML 1.2 (so that 1e-3 is a number and `yes` a word), safe: no tags run code."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    limits.CASE.check(len(text), where)
    limits.BRACKETS.check(max(itertools.accumulate(_OPENS.get(sign, 0) for sign in text), default=0), where)
    try:
        held = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise Trouble(f"{where}{line}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    except Exception as error:  # a date of the 13th month, a number of 5000 digits, a thousand brackets
        raise Trouble(f"{where}: not valid YAML ({type(error).__name__}: {' '.join(str(error).split())[:200]}).") from None
    limits.check_values(held, where)
    return held


def set_key(data: dict, key: str, value, where: str, said: str = "--set ") -> None:
    """`set_key(case, "candidate.live.build.shift", 3)`. A side's `build` and `call` may be named without `live`. `said`: what an
    error puts before the key."""
    parts = key.split(".")
    if len(parts) > 1 and parts[0] in ("reference", "candidate") and parts[1] in ("build", "call", "entry", "python"):
        parts.insert(1, "live")
    *path, last = parts
    node = data
    for part in path:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise Trouble(f"{where}: {said}{key}: {part!r} holds no keys. Name a key of the case, such as candidate.build.shift.")
    node[last] = value


def entry_file(entry: str, role: str, resolve=pathlib.Path) -> tuple[pathlib.Path, str]:
    """(file, function) of FILE.py:FUNCTION. Raises Trouble for anything else, and where there is no such file."""
    file, _, function = entry.rpartition(":")
    if not file or not function:
        raise Trouble(f"{role}: live.entry {entry!r} is not FILE.py:FUNCTION.")
    path = resolve(file)
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        raise Trouble(f"{role}: {path}, named by live.entry, does not exist.{near}")
    return path, function


def load_case(path, overrides: dict[str, Any] | None = None) -> Case:
    """The case in a YAML file, with `--set` overrides. Raises Trouble naming file, key, and the nearest known key."""
    path = pathlib.Path(path)
    if not path.is_file():
        known = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise Trouble(f"{path}: no such case.{did_you_mean(path.name, known)}")
    limits.CASE.check(path.stat().st_size, path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{path}: cannot be read ({error}). Save it as UTF-8.") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise Trouble(f"{path}: a case is a mapping with the keys reference and candidate; see data/cases/.")
    for key, value in (overrides or {}).items():
        set_key(data, key, value, str(path))
    case = make_case(data, str(path))
    case.path = str(path.resolve())
    refuse_what_runs(case, path)
    return case


def make_case(data: dict, where: str = "case") -> Case:
    """A validated case. The first problem becomes one line."""
    try:
        return Case(**data)
    except pydantic.ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key also makes one missing
        spot = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Trouble(f"{where}: unknown key {spot!r}.{_meant(first['loc'])}") from None
        if first["type"] == "missing":
            raise Trouble(f"{where}: the key {spot!r} is missing.") from None
        message = first["msg"].removeprefix("Value error, ")
        raise Trouble(f"{where}: {spot or 'case'}: {message}.".replace("..", ".")) from None


def _meant(location) -> str:
    """The nearest key that is known at a location, also one of `live`; all that are known where none is near."""
    *above, key = location
    known = _known(above)
    live = did_you_mean(key, Live.model_fields).replace("'", "'live.", 1) if "live" in known else ""
    return did_you_mean(key, known) or live or f" Known: {', '.join(known)}."


def _known(location) -> list[str]:
    """The keys that are known at a location of the case."""
    model: Any = Case
    for part in location:
        if not isinstance(part, str) or part not in getattr(model, "model_fields", {}):
            break
        annotation = model.model_fields[part].annotation
        choices = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in choices if isinstance(c, type) and issubclass(c, pydantic.BaseModel)), model)
    return [name for name in model.model_fields if name not in ("path", "object")]
