"""A study as the explorer shows it: the pipeline as a strip, and behind each stage its places, figures and causes."""

from __future__ import annotations

import math

from whydiff.places import STAGES, stage_of, walk_key
from whydiff.report.contents import ranked
from whydiff.report.headline import headline
from whydiff.report.stages import STAGE_NAMES, stages
from whydiff.verdict import describe, share, where
from whydiff.widgets.places import over_floor, shown

BUDGET, LEAST, MOST = 750_000, 1_500, 40_000  # bytes of all maps of a study, and the least and most for one place
MOST_STEPS = 24  # of a probe; from longer runs steps are taken evenly


def board(study, *, blind: bool = False) -> dict:
    """What the explorer shows of a study. `blind`: without the verdict, for somebody who wants to find it."""
    verdict = study.verdict.to_dict()
    probes = probes_of(study, blind)
    data = {"kind": "board", "title": study.case.title or study.case.name, "blind": blind, "probes": probes,
            "names": {role: getattr(study.case, role).name or role for role in ("reference", "candidate")},
            "stages": [_blind(entry) if blind else entry for entry in strip(study, verdict, probes)],
            "headline": "", "summary": "", "first": None, "verdict": ""}  # fmt: skip
    if not blind:
        first = verdict["first_divergence"]
        data |= {"headline": headline(study), "summary": verdict["summary"], "verdict": verdict["verdict"],
                 "first": first and {"stage": first["stage"], "probe": first["probe"], "step": first.get("step")}}  # fmt: skip
    return data


def probes_of(study, blind: bool = False) -> dict[str, dict]:
    """{probe: {"stage", "places": [...]}} in walking order, modules left out."""
    rows: dict[str, list] = {}
    for row in sorted(study.rows, key=lambda row: walk_key(row.place)):
        if row.place.module is None:
            rows.setdefault(row.place.probe, []).append(row)
    chosen = {probe: some(found, MOST_STEPS) for probe, found in rows.items()}
    budget = max(LEAST, min(MOST, BUDGET // max(1, sum(map(len, chosen.values())))))
    added = {} if blind else {row.place: row for row in study.added}
    return {probe: {"stage": found[0].place.stage, "of": len(rows[probe]),
                    "places": [shown(study, row, budget, added.get(row.place)) for row in found]} for probe, found in chosen.items()}  # fmt: skip


def some(items: list, most: int) -> list:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def strip(study, verdict: dict, probes: dict) -> list[dict]:
    """The stages in pipeline order: how far each stands above the noise floor, what it adds, its causes and open ends."""
    told = {entry.stage: entry for entry in stages(study)}
    causes = ranked(verdict["causes"])
    entries = []
    for stage in STAGES:
        if stage not in told:
            continue
        rows, added = ([row for row in found if row.place.stage == stage] for found in (study.rows, study.added))
        elsewhere = [cause for cause in causes if cause["stage"] != stage and stage_of(cause["probe"], cause["module"]) == stage]
        entries.append({
            "stage": stage, "name": STAGE_NAMES[stage], "state": told[stage].state, "sign": told[stage].sign, "word": told[stage].word,
            "tensors": len(rows), "times": _largest(rows), "stands": any(row.stands_out for row in rows), "adds": _largest(added),
            "unmeasured": any(row.difference is None for row in rows), "probes": [name for name, probe in probes.items() if probe["stage"] == stage],
            "causes": [_cause(cause) for cause in causes if cause["stage"] == stage],
            "seen": [_cause(cause) | {"acts": STAGE_NAMES[cause["stage"]]} for cause in elsewhere],
            "unexplained": [describe(entry) for entry in verdict["unexplained"] if entry["stage"] == stage],
        })  # fmt: skip
    for entry in entries:
        if entry["seen"] and entry["state"] == "inherits":
            entry |= {"state": "seen", "sign": "✗", "word": "shows here"}
    return entries


def _largest(rows) -> float | None:
    times = [t for t in map(over_floor, rows) if t is not None and math.isfinite(t)]
    return max(times, default=None)


def _cause(cause: dict) -> dict:
    effect = cause["image_effect"]
    return {"id": cause["id"], "where": where(cause), "statement": cause["statement"], "experiment": cause["experiment"],
            "explained": share(cause["explained"]), "effect": "" if effect is None else share(effect), "departs": cause["departs"],
            "fix": cause["fix"], "probe": cause["probe"]}  # fmt: skip


def _blind(entry: dict) -> dict:
    """A stage without what the experiments found: only that its tensors differ, or not."""
    sign, word = ("·", "not compared") if not entry["tensors"] else ("≠", "differs") if entry["stands"] else ("≈", "within noise")
    return entry | {"state": "blind", "sign": sign, "word": word, "causes": [], "seen": [], "unexplained": [], "adds": None}
