"""What a framework does when nobody says: its defaults by version, from the atlas. The one place where audits ask the atlas."""

from __future__ import annotations

from whydiff.audits.expert_switch import Configured
from whydiff.audits.result import Table
from whydiff.errors import Trouble
from whydiff.evidence.surroundings.defaults import defaults_of


def by_version(framework: str, model: str, versions: list[str], keys: list[str]) -> dict[str, dict[str, object]]:
    """{key: {version: value}} for the keys that any of the versions knows; a version that does not is left out of its row."""
    known = {version: {fact.key: fact.value for fact in defaults_of(framework, version, model)} for version in versions}
    return {key: row for key in keys if (row := {v: known[v][key] for v in versions if key in known[v]})}


def version_table(values: dict[str, dict[str, object]], versions: list[str]) -> Table:
    """`by_version` as a table; `?` where nobody looked, and in the last column the versions that changed what they found."""
    rows = []
    for key, row in values.items():
        known = list(row)
        changed = [v for before, v in zip(known, known[1:], strict=False) if row[before] != row[v]]
        rows.append((key, *(str(row[v]) if v in row else "?" for v in versions), ", ".join(changed) or "never"))
    return Table(("nobody specified", *versions, "changed in"), tuple(rows))


def changed_keys(values: dict[str, dict[str, object]]) -> list[str]:
    """The keys whose value is not the same in all versions."""
    return [key for key, row in values.items() if len({str(value) for value in row.values()}) > 1]


def configured_shifts(framework: str, version: str, models: list[str]) -> list[Configured]:
    """The static shift that a version of a framework configures for each model; models without one are left out."""
    found = []
    for model in models:
        try:
            facts = {fact.key: fact for fact in defaults_of(framework, version, model)}
        except Trouble:
            continue
        fact = facts.get("flow_shift")
        if fact is not None and isinstance(fact.value, (int, float)):
            found.append(Configured(float(fact.value), f"{model}, {framework} {fact.version}", fact.source))
    return found
