"""What a framework uses when nothing is specified: the atlas in `data/facts`, asked by framework, version and model."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.atlas.entries import Atlas, Entry, Framework, read
from whydiff.evidence.atlas.keys import equal
from whydiff.evidence.atlas.versions import newest, position

FOLDER = pathlib.PurePath("data", "facts")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One setting that takes effect when a request leaves it out. `version` is the one in which it was looked up; `called`:
    the framework's own name; `when`: the only path on which it holds, empty for all."""

    key: str
    value: Any
    source: str
    version: str
    note: str = ""
    unit: str = ""
    called: str = ""
    when: str = ""


def defaults_of(framework: str, version: str | None, model: str) -> list[Fact]:
    """What takes effect on every path; one fact for a key. Names in any case; `version` None: the newest known.

    Raises Trouble naming the nearest known framework, model or version.
    """
    return [fact for fact in facts_of(framework, version, model) if not fact.when]


def facts_of(framework: str, version: str | None, model: str) -> list[Fact]:
    """As `defaults_of`, followed by what holds on one path only (`when`)."""
    known, entries, at = _asked(framework, version, model)
    chosen: dict[tuple, Entry] = {}
    for entry in sorted(entries, key=lambda entry: known.span(entry)[0]):  # the latest that has begun wins
        first, last = known.span(entry)
        if first <= at and (last >= at or not entry.when):  # a path that ended is gone; a default was only not looked at again
            chosen[entry.key, entry.when] = entry
    facts = [_fact(known, entry, at, version) for entry in entries if chosen.get((entry.key, entry.when)) is entry]
    return sorted(facts, key=lambda fact: bool(fact.when))


def known_version(framework: str, version: str | None, model: str) -> str:
    """The version whose facts answer for `version`: itself, or the newest known one that is not later."""
    known, entries, at = _asked(framework, version, model)
    spans = [known.span(entry) for entry in entries]
    return known.versions[int(max(min(at, last) for first, last in spans if first <= at))].name


def framework_called(name: str) -> Framework:
    """The framework of that name, in any case and spelling known. Raises Trouble naming the nearest."""
    frameworks = atlas().frameworks
    for framework in frameworks.values():
        if name.lower() in (framework.name.lower(), *(other.lower() for other in framework.also)):
            return framework
    known = sorted(frameworks, key=str.lower)
    raise Trouble(f"no facts about the framework {name!r}.{_near(name, known)} Known: {', '.join(known)}.")


def model_called(name: str) -> str:
    """Our name of a model: `black-forest-labs/FLUX.1-dev` and `flux.1-dev` are one; so are Wan's with and without `-Diffusers`.

    A name that no framework knows comes back as it is.
    """
    plain = name.rpartition("/")[2].lower().removesuffix("-diffusers")
    plain = atlas().names.get(plain, plain)
    return next((model for model in atlas().models if model.lower() == plain.lower()), name)


def models_of(framework: Framework) -> list[str]:
    return sorted({model for entry in framework.entries for model in entry.models}, key=str.lower)


def atlas() -> Atlas:
    return read(data_folder("facts"))


def data_folder(inner: str | os.PathLike = "") -> pathlib.Path:
    """`data/<inner>` of the checkout, found by walking up from the package; WHYDIFF_DATA names another `data`."""
    if os.environ.get("WHYDIFF_DATA"):
        return pathlib.Path(os.environ["WHYDIFF_DATA"]) / inner
    for folder in pathlib.Path(__file__).resolve().parents:
        if (folder / FOLDER).is_dir():
            return folder / "data" / inner
    raise Trouble("data/facts was not found above the package. Run from a checkout of whydiff (pip install -e .), or set "
                  "WHYDIFF_DATA to its data folder.")  # fmt: skip


def _asked(framework: str, version: str | None, model: str) -> tuple[Framework, list[Entry], int]:
    """The framework, its entries about the model on the branch of the version, and the place of the version."""
    known = framework_called(framework)
    name = model_called(model)
    of_model = [entry for entry in known.entries if name in entry.models]
    if not of_model:
        raise Trouble(_unknown_model(known, name))
    at = newest(known.versions) if version is None else position(known.versions, version)
    branch = known.versions[at].branch if at is not None else ""
    entries = [entry for entry in of_model if known.branch(entry) == branch]
    if version is None and not entries:  # known on a branch only
        at = max(int(min(known.span(entry)[1], len(known.versions) - 1)) for entry in of_model)
        entries = [entry for entry in of_model if known.branch(entry) == known.versions[at].branch]
    if at is None or not any(known.span(entry)[0] <= at for entry in entries):
        there = dict.fromkeys(v.name for v in known.versions for entry in of_model if v.name in (entry.first, entry.last, *entry.sources))
        raise Trouble(f"nothing is known about {name} in {known.name} {version}, nor in an earlier version."
                      f"{did_you_mean(version or '', there)} Known: {', '.join(there)}.")  # fmt: skip
    return known, entries, at


def _unknown_model(known: Framework, model: str) -> str:
    models = models_of(known)
    others = [one.name for one in atlas().frameworks.values() if model in models_of(one)]
    elsewhere = f" {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it." if others else ""
    return (f"no facts about {model!r} in {known.name}.{elsewhere or _near(model, models)} Known: {', '.join(models[:12])}"
            f"{', ...' if len(models) > 12 else ''}.")  # fmt: skip


def _fact(known: Framework, entry: Entry, at: int, asked: str | None) -> Fact:
    """An entry as it answers for the version at place `at`: with the place nearest to it that was read, and what is not sure."""
    places = {version.name: i for i, version in enumerate(known.versions)}
    read_in = [name for name in entry.sources if name] or [entry.first or entry.last]
    name = max((n for n in read_in if places[n] <= at), key=places.get, default=min(read_in, key=places.get))
    source = entry.sources.get(name) or entry.sources[""]
    notes = [entry.note] if entry.note else []
    if known.span(entry)[1] < at:
        notes.append(f"last looked at in {name}")
    elif asked is not None and not known.versions[at].is_called(asked):
        notes += _until(known, entry, at)
    return Fact(entry.key, entry.value, f"{known.versions[places[name]].source}: {source}", name, "; ".join(notes), entry.unit,
                entry.called, entry.when)  # fmt: skip


def _until(known: Framework, entry: Entry, at: int) -> list[str]:
    """For a version between two that were read: the value by the next one, if it is another."""
    later = [other for other in known.entries if other.key == entry.key and other.when == entry.when
             and known.branch(other) == known.branch(entry) and known.span(other)[0] > at
             and set(other.models) & set(entry.models)]  # fmt: skip
    following = min(later, key=lambda other: known.span(other)[0], default=None)
    if following is None or known.span(entry)[1] > at or equal(entry.key, entry.value, following.value):
        return []
    return [f"or already {following.value!r}, the value in {following.first}"]


def _near(word: str, known: list[str]) -> str:
    lowered = {k.lower(): k for k in known}
    near = did_you_mean(word.lower(), lowered)
    for low, name in lowered.items():
        near = near.replace(repr(low), repr(name))
    return near
