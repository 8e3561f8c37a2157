"""What a side left unspecified, filled from its framework's own defaults and marked with their source."""

from __future__ import annotations

from typing import Any

from whydiff.evidence.sides.runnable import SYNONYMS
from whydiff.evidence.surroundings.defaults import defaults_of, framework_called

CANONICAL = {spelling: name for name, spellings in SYNONYMS.items() for spelling in spellings}


def filled(stated: dict[str, dict[str, Any]], defaults) -> dict[str, dict[str, Any]]:
    """`stated` ({parameter: {"value", "origin"}}), preceded by the defaults of what it leaves out.

    `defaults` is a case's `defaults:` key, or None. Left out is what is not there under any spelling, and what stands there as
    None because nobody gave it a value. A filled entry has the key "source" besides, and its origin begins with "default".
    """
    if defaults is None:
        return stated
    said = {CANONICAL.get(key, key) for key, entry in stated.items() if not _open(entry)}
    name = framework_called(defaults.framework).name
    found = {fact.key: {"value": fact.value, "origin": f"default of {name} {fact.version}: {_place(fact)}", "source": fact.source}
             for fact in defaults_of(defaults.framework, defaults.version, defaults.model)
             if CANONICAL.get(fact.key, fact.key) not in said}  # fmt: skip
    return found | {key: entry for key, entry in stated.items() if CANONICAL.get(key, key) not in found}


def _open(entry: dict[str, Any]) -> bool:
    return entry["value"] is None and entry["origin"].startswith(("default", "not specified"))


def _place(fact) -> str:
    return fact.source + (f" ({fact.note})" if fact.note else "")
