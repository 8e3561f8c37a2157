"""What a framework uses when nothing is specified: facts looked up in its source, each with the place."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
from typing import Any

from whydiff.errors import Trouble, did_you_mean

FOLDER = pathlib.PurePath("data", "facts")
_SPELLINGS = {"steps": "num_inference_steps", "_default_height": "height", "_default_width": "width"}
_NOT_FRAMEWORKS = ("measured",)  # results of running schedulers, kept in the same files


@dataclasses.dataclass(frozen=True)
class Fact:
    """One setting that takes effect when a request leaves it out. `version` is the one in which it was looked up."""

    key: str
    value: Any
    source: str
    version: str
    note: str = ""


def defaults_of(framework: str, version: str | None, model: str) -> list[Fact]:
    """The facts about a model in a framework; names in any case. `version` None: the newest known.

    Keys that begin with `default.` are settings and lose that prefix. Raises Trouble naming the nearest known name.
    """
    used = known_version(framework, version, model)
    found: dict[str, Fact] = {}
    for row in _rows():
        if _same(row["framework"], framework) and _same(row["model"], model) and row["version"] == used:
            for key, value, remark in _settings(row["key"], row["value"]):
                note = "; ".join(part for part in (remark, row.get("note") or "") if part)
                found.setdefault(key, Fact(key, value, row["source"], used, note))
    return list(found.values())


def _settings(key: str, value) -> list[tuple[str, Any, str]]:
    """(key, value, remark) in the words of a case's settings: `default.height/width: 1024x768` are two of them."""
    value = None if value == "None" else value
    if key.startswith("fallback.") and key.endswith("_if_unset"):
        return [(key.removeprefix("fallback.").removesuffix("_if_unset"), value, "where a request has neither height nor width")]
    if not key.startswith("default."):
        return [(key, value, "")]
    keys = [_SPELLINGS.get(name, name) for name in key.removeprefix("default.").split("/")]
    if len(keys) > 1 and isinstance(value, str) and re.fullmatch(r"\d+(x\d+)*", value) and value.count("x") == len(keys) - 1:
        return [(name, int(part), "") for name, part in zip(keys, value.split("x"), strict=True)]
    name, remark = "/".join(keys), ""
    if isinstance(value, str):
        match = re.fullmatch(r'("[^"]*"|-?\d+(?:\.\d+)?|None) \((.*)\)', value)
        value, remark = (match[1].strip('"'), match[2]) if match else (value, "")
        if value == "None":
            value = None
        elif re.fullmatch(r"-?\d+(\.\d+)?", value):
            value = float(value) if "." in value else int(value)
    return [(name, value, remark)]


def known_version(framework: str, version: str | None, model: str) -> str:
    """The version whose facts answer for `version`: itself, or the newest known one that is not later."""
    rows = [row for row in _rows() if row["framework"] not in _NOT_FRAMEWORKS]
    of_framework = [row for row in rows if _same(row["framework"], framework)]
    if not of_framework:
        known = sorted({row["framework"] for row in rows})
        raise Trouble(f"no facts about the framework {framework!r}.{_near(framework, known)} Known: {', '.join(known)}.")
    of_model = [row for row in of_framework if _same(row["model"], model)]
    if not of_model:
        known = sorted({row["model"] for row in of_framework})
        raise Trouble(f"no facts about {model!r} in {framework}.{_near(model, known)} Known: {', '.join(known[:12])}"
                      f"{', ...' if len(known) > 12 else ''}.")  # fmt: skip
    versions = list(dict.fromkeys(row["version"] for row in of_model))
    if version is None:
        return max(versions, key=_age)
    for exact in versions:
        if exact.lower() == version.lower():
            return exact
    for label in versions:  # "58eb52c0" of "58eb52c0 (2026-08-23)", "PR #1079"
        if version.lower() in re.split(r"[\s()]+", label.lower()):
            return label
    wanted = _number(version)
    earlier = [v for v in versions if wanted and _number(v) and _number(v) <= wanted]
    if earlier:
        return max(earlier, key=_age)
    raise Trouble(f"nothing is known about {model} in {framework} {version}, nor in an earlier version. "
                  f"Known: {', '.join(sorted(versions, key=_age))}.")  # fmt: skip


def data_folder(inner: str | os.PathLike = "") -> pathlib.Path:
    """`data/<inner>` of the checkout, found by walking up from the package; WHYDIFF_DATA names another `data`."""
    if os.environ.get("WHYDIFF_DATA"):
        return pathlib.Path(os.environ["WHYDIFF_DATA"]) / inner
    for folder in pathlib.Path(__file__).resolve().parents:
        if (folder / FOLDER).is_dir():
            return folder / "data" / inner
    raise Trouble("data/facts was not found above the package. Run from a checkout of whydiff (pip install -e .), or set "
                  "WHYDIFF_DATA to its data folder.")  # fmt: skip


def _rows() -> list[dict]:
    return _read(str(data_folder("facts")))


@functools.lru_cache(maxsize=4)
def _read(folder: str) -> list[dict]:
    files = sorted(pathlib.Path(folder).glob("*.json"))
    if not files:
        raise Trouble(f"{folder} holds no facts (*.json). Set WHYDIFF_DATA to the data folder of a whydiff checkout.")
    rows = []
    for path in files:
        try:
            rows += json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Trouble(f"{path} cannot be read ({error}).") from None
    return rows


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    """`black-forest-labs/FLUX.1-dev` and `flux.1-dev` are one name; so are Wan's with and without `-Diffusers`."""
    name = name.lower()
    last = name.rpartition("/")[2] if "(" not in name else name
    return last.removesuffix("-diffusers")


def _near(word: str, known: list[str]) -> str:
    lowered = {k.lower(): k for k in known}
    near = did_you_mean(word.lower(), lowered)
    for low, name in lowered.items():
        near = near.replace(repr(low), repr(name))
    return near


def _number(version: str) -> tuple | None:
    """(release, post) of a plain version such as 0.5.8.post1; None for commits, branches and pull requests."""
    match = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:\.?post(\d+))?", version.strip().lower())
    return (tuple(int(part) for part in match[1].split(".")), int(match[2] or 0)) if match else None


def _age(version: str) -> tuple:
    """Sort key: releases by number, then what has a date by that date, HEAD among those; anything else before both."""
    number = _number(version)
    date = re.search(r"\d{4}-\d{2}-\d{2}", version)
    if number:
        return (2, number)
    return (1, (date[0] if date else "",)) if date or "HEAD" in version else (0, (version,))
