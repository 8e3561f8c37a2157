"""What each side was told and where it runs, side by side."""

from __future__ import annotations

ROLES = ("reference", "candidate")
HIDDEN = ("generator", "self")
ORIGINS = {"call": "the case: call", "case: settings": "the case: settings"}  # in a reader's words


def settings_of(study, role: str) -> dict[str, dict]:
    """Every setting of a side: {"value", "origin"}; what was said last wins (facts, settings, trace, live call)."""
    from whydiff.evidence.sides.filled import filled  # torch: not before a report is asked for

    case_side = getattr(study.case, role)
    found: dict[str, dict] = {key: {"value": value, "origin": "case: settings"} for key, value in case_side.settings.items()}
    side, trace = study.lab.sides.get(role), study.lab.traces.get(role)
    if side is not None:
        found |= side.effective_settings()
    elif trace is not None:
        found |= {key: {"value": value, "origin": "recorded in the trace"} for key, value in trace.settings.items()}
    return {key: entry for key, entry in filled(found, case_side.defaults).items() if key not in HIDDEN}


def settings_rows(study) -> list[dict]:
    """One row for each setting that a side states or has: both values, where each came from, and whether they differ."""
    sides = {role: settings_of(study, role) for role in ROLES}
    rows = []
    for key in dict.fromkeys([*sides["reference"], *sides["candidate"]]):
        cells = [sides[role].get(key) for role in ROLES]
        values = [None if cell is None else cell["value"] for cell in cells]
        # A default of None is decided later, by code: nothing is stated that could differ.
        known = all(cell is not None and not (cell["value"] is None and cell["origin"] != "call") for cell in cells)
        rows.append({"key": key, "cells": [_cell(cell) for cell in cells], "both": known, "differs": known and values[0] != values[1],
                     "dull": all(cell is None or (cell["value"] is None) for cell in cells)
                     or any(isinstance(value, str) and "object at 0x" in value for value in values)})  # fmt: skip
    said = {"call", "case: settings", "recorded in the trace"}
    rows = [row for row in rows if not row["dull"]]
    return sorted(rows, key=lambda row: (not row["differs"], not any(cell["origin"] in said for cell in row["cells"])))


def _cell(cell: dict | None) -> dict:
    if cell is None:
        return {"value": "not stated", "origin": ""}
    return {"value": "none" if cell["value"] is None else str(cell["value"])[:300], "origin": ORIGINS.get(cell["origin"], cell["origin"])}


def configuration_rows(study) -> list[dict]:
    """What the components' own configurations say, by `component.key`: as in `settings_rows`, those that differ first."""
    sides = {role: dict(_configuration(study, role)) for role in ROLES}
    rows = []
    for key in dict.fromkeys([*sides["reference"], *sides["candidate"]]):
        cells = [sides[role].get(key) for role in ROLES]
        rows.append({"key": key, "cells": [_cell(cell) for cell in cells], "differs": None not in cells and cells[0]["value"] != cells[1]["value"]})
    return sorted(rows, key=lambda row: not row["differs"])


def _configuration(study, role: str):
    from whydiff.evidence.surroundings.configurations import configurations

    side, trace = study.lab.sides.get(role), study.lab.traces.get(role)
    held = configurations(side.subject) if side is not None else (trace.producer.get("components") or {}) if trace is not None else {}
    for component, entry in held.items() if isinstance(held, dict) else ():
        for key, value in (entry.get("config") or {}).items() if isinstance(entry, dict) else ():
            if not key.startswith("_"):
                yield f"{component}.{key}", {"value": value, "origin": ""}


def producers(study) -> list[dict]:
    """Where each side's code comes from, as the recorder saw it."""
    rows = []
    for role in ROLES:
        trace = study.lab.traces.get(role)
        made = (trace.producer if trace is not None else None) or {}
        parts = {key: made.get(key) for key in ("name", "package", "version", "entry", "code") if made.get(key)}
        evidence = study.verdict.evidence.get(role, "")
        rows.append({"role": role, "evidence": evidence, "parts": {k: str(v)[:200] for k, v in parts.items()}})
    return rows


def environments(study) -> list[dict]:
    """The facts of both environments, flattened; a side that ran here has this process's."""
    flat = {}
    for role in ROLES:
        trace = study.lab.traces.get(role)
        own = (trace.environment if trace is not None else None) or (study.environment if study.lab.sides.get(role) else {})
        flat[role] = dict(_flatten(own, ""))
    keys = dict.fromkeys([*flat["reference"], *flat["candidate"]])
    return [{"key": key, "cells": [flat[role].get(key, "–") for role in ROLES],
             "differs": bool(flat["reference"] and flat["candidate"]) and flat["reference"].get(key) != flat["candidate"].get(key)}
            for key in keys]  # fmt: skip


def _flatten(value, name: str):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _flatten(inner, f"{name}.{i}")
    else:
        yield name, str(value)
