"""How `whydiff defaults` prints what the atlas answers, for people and as JSON."""

from __future__ import annotations

import collections
import dataclasses
import json
import re

import typer

from whydiff.evidence.atlas.compare import Row, compare_defaults, schedule_clashes
from whydiff.evidence.atlas.entries import Framework
from whydiff.evidence.surroundings.defaults import Fact, atlas, facts_of, framework_called, known_version, model_called, models_of


def one(name: str, version: str | None, model: str, as_json: bool) -> int:
    """One framework's defaults for a model, and a warning where others run the same weights with another schedule."""
    facts, used = _asked(name, version, model)
    _warn(model_called(model), {framework_called(name).name: version})
    if as_json:
        _print([dataclasses.asdict(fact) for fact in facts])
        return 0
    always = [fact for fact in facts if not fact.when]
    print(f"{framework_called(name).name} {used}, {model_called(model)}: {len(always)} settings that take effect when nothing is specified")
    shared = _shared([fact.source for fact in facts])
    if shared:
        print(f"(sources are files of {shared.replace(': ', ', under ')})")
    _facts(always, shared)
    for when in dict.fromkeys(fact.when for fact in facts if fact.when):
        print(f"\nonly where {when}:")
        _facts([fact for fact in facts if fact.when == when], shared)
    return 0


def two(name: str, version: str | None, other: str, other_version: str | None, model: str, as_json: bool) -> int:
    """What differs between two answers. 1 if anything that both state does, as diff(1)."""
    (left, used), (right, other_used) = _asked(name, version, model), _asked(other, other_version, model)
    rows = compare_defaults(left, right)
    differing = [row for row in rows if row.same is False]
    lacking = [row for row in rows if row.same is None]
    labels = (f"{framework_called(name).name} {used}", f"{framework_called(other).name} {other_used}")
    if as_json:
        _print({"reference": labels[0], "candidate": labels[1], "rows": [_pair(row) for row in rows]})
        return 1 if differing else 0
    print(f"{labels[0]} against {labels[1]}, {model}: {len(differing)} differ, {len(rows) - len(differing) - len(lacking)} agree, "
          f"{len(lacking)} stated by one of them only")  # fmt: skip
    for row in differing:
        print(f"  {row.key}{f' (only where {row.one.when})' if row.one.when else ''}")
        for label, fact in zip(labels, (row.one, row.other), strict=True):
            print(f"    {label}: {say(fact)}\n      {_from(fact)}")
    for label, facts in zip(labels, ([row.one for row in lacking], [row.other for row in lacking]), strict=True):
        said = [f"{fact.key} {say(fact)}{f' (only where {fact.when})' if fact.when else ''}" for fact in facts if fact]
        if said:
            print(f"  stated by {label} only: {', '.join(said)}")
    return 1 if differing else 0


def across(model: str, as_json: bool) -> int:
    """Every framework that knows a model, in its newest version, key by key."""
    names = [name for name, framework in sorted(atlas().frameworks.items(), key=lambda item: item[0].lower())
             if model in models_of(framework)]  # fmt: skip
    found = {f"{name} {known_version(name, None, model)}": facts_of(name, None, model) for name in names}
    _warn(model, {})
    if as_json:
        _print({label: [dataclasses.asdict(fact) for fact in facts] for label, facts in found.items()})
        return 0
    print(f"{model}, when nothing is specified, in {', '.join(found)}")
    for key in dict.fromkeys(fact.key for facts in found.values() for fact in facts):
        print(f"  {key}")
        for label, facts in found.items():
            for fact in facts:
                if fact.key == key:
                    print(f"    {label}: {say(fact)}{f', only where {fact.when}' if fact.when else ''}")
    return 0


def framework(known: Framework, as_json: bool) -> int:
    """The versions of a framework that were looked at, and its models."""
    if as_json:
        _print(_summary(known))
        return 0
    print(f"{known.name}: {known.about}")
    print(f"  versions looked at: {', '.join(v.name + (f' ({v.branch})' if v.branch else '') for v in known.versions)}")
    print(f"  models: {', '.join(models_of(known))}")
    return 0


def everything(as_json: bool) -> int:
    """All frameworks, and all models with the frameworks that know each."""
    frameworks = sorted(atlas().frameworks.values(), key=lambda known: known.name.lower())
    if as_json:
        _print({"frameworks": [_summary(known) for known in frameworks], "models": atlas().models})
        return 0
    print(f"{len(frameworks)} frameworks, {sum(len(known.entries) for known in frameworks)} entries. "
          "`whydiff defaults FRAMEWORK MODEL` asks one, `whydiff defaults MODEL` all of them.")  # fmt: skip
    for known in frameworks:
        versions = [version.name for version in known.versions]
        print(f"  {known.name}  {versions[0]}{f' to {versions[-1]}' if len(versions) > 1 else ''}, {len(models_of(known))} models")
    print("models")
    for model in atlas().models:
        print(f"  {model}  {', '.join(known.name for known in frameworks if model in models_of(known))}")
    return 0


def checked(name: str, model: str | None, as_json: bool) -> int:
    """The entries beside the installed package. 1 if one differs, as diff(1)."""
    from whydiff.evidence.atlas.live import AGREES, DIFFERS, UNCHECKED, check_entries, installed_version

    known = framework_called(name)
    ours = model and model_called(model)
    entries = [entry for entry in known.entries if not ours or ours in entry.models]
    if not entries:
        facts_of(name, None, model)  # says which models there are
    checks = check_entries(known, entries)
    counts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in (AGREES, DIFFERS, UNCHECKED)}
    if as_json:
        _print({"framework": known.name, "installed": installed_version(known), "counts": counts, "entries": [
            {"models": list(check.entry.models), "key": check.entry.key, "value": check.entry.value, "outcome": check.outcome,
             "why": check.why, "check": check.entry.check, "file": check.entry.file} for check in checks]})  # fmt: skip
        return 1 if counts[DIFFERS] else 0
    print(f"{known.name} {installed_version(known)}: of {len(checks)} entries {counts[AGREES]} agree with it, {counts[DIFFERS]} differ, "
          f"{counts[UNCHECKED]} cannot be checked here (--json has each)")  # fmt: skip
    for check in (check for check in checks if check.outcome == DIFFERS):
        print(f"  differs: {', '.join(check.entry.models)}: {check.entry.key} {_value(check.entry.value)}; {check.why}")
    _unchecked([check for check in checks if check.outcome == UNCHECKED])
    return 1 if counts[DIFFERS] else 0


def _unchecked(checks: list) -> None:
    """What could not be looked at, by the reason, with its keys."""
    for why in dict.fromkeys(check.why for check in checks):
        keys = dict.fromkeys(check.entry.key for check in checks if check.why == why)
        print(f"  cannot be checked, since {why}: {', '.join(keys)}")


def say(fact: Fact) -> str:
    """A value with its unit, and the framework's own word for it where that is another."""
    unit = fact.unit if fact.unit and fact.value is not None and fact.unit != "sigma" else ""
    unit = unit[:-1] if fact.value == 1 and unit.endswith("s") else unit
    return f"{_value(fact.value)}{unit and ' ' + unit}" + (f" (called {fact.called} there)" if fact.called else "")


def _asked(name: str, version: str | None, model: str) -> tuple[list[Fact], str]:
    facts, used = facts_of(name, version, model), known_version(name, version, model)
    known = framework_called(name)
    if version and not any(known_one.is_called(version) for known_one in known.versions if known_one.name == used):
        typer.echo(f"whydiff: {name} {version} was not looked at; these are the values of {used}, the newest one not later.",
                   err=True)  # fmt: skip
    return facts, used


def _warn(model: str, pinned: dict) -> None:
    clashes = schedule_clashes(model, pinned)
    if clashes:
        typer.echo(f"whydiff: warning: the weights of {model} run with different schedules: "
                   f"{'; '.join(map(str, clashes))}.", err=True)  # fmt: skip


def _shared(sources: list[str]) -> str:
    """What most sources begin with, "PyPI sglang==0.5.8 wheel (2026-01-23): sglang/multimodal_gen/"; "" where they have little in common."""
    heads = collections.Counter(match[0] for source in sources if (match := re.match(r"[^:]+: [\w.-]+/([\w.-]+/)?", source)))
    [(head, times)] = heads.most_common(1) or [("", 0)]
    return head if times > len(sources) / 2 and times > 2 else ""


def _facts(facts: list[Fact], shared: str = "") -> None:
    width = max((len(fact.key) for fact in facts), default=0)
    for fact in facts:
        print(f"  {fact.key:{width}}  {say(fact)}")
        print(f"  {'':{width}}    {_from(fact, shared)}")


def _from(fact: Fact, shared: str = "") -> str:
    source = fact.source.removeprefix(shared) if shared else fact.source
    return f"{source}{f' ({fact.note})' if fact.note else ''}"


def _value(value) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False) if value == "" else str(value)


def _pair(row: Row) -> dict:
    facts = {"reference": row.one, "candidate": row.other}
    return {"key": row.key, "same": row.same, **{role: fact and dataclasses.asdict(fact) for role, fact in facts.items()}}


def _summary(known: Framework) -> dict:
    return {"framework": known.name, "about": known.about, "also": list(known.also), "models": models_of(known),
            "versions": [dataclasses.asdict(version) for version in known.versions]}  # fmt: skip


def _print(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
