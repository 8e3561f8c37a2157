"""What a run with causes repaired shows: how far every probe is from the other side then, and the picture it makes."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.engine.lab import Lab
from whydiff.engine.rows import Row, compare_runs
from whydiff.evidence.traces.trace import Trace


@dataclasses.dataclass(frozen=True)
class Repaired:
    """A whole run of the candidate with one cause undone, or all. `rows`: the largest difference of each probe, in walking order,
    but for those in `put`, where the reference's values were put in."""

    rows: list[Row]
    put: list[str]
    picture: torch.Tensor | None  # (B, H, W, C) or (B, F, H, W, C) in [0, 1]


def repaired(lab: Lab, trace: Trace) -> Repaired | None:
    """The run `trace` held against the reference's; None where the patient is the reference, whose floor is its own."""
    if lab.patient != "candidate":
        return None
    put = list(dict.fromkeys(place.probe for place in trace.moved))
    rows = [row for row in compare_runs(lab, trace) if row.place.probe not in put and not row.place.probe.startswith("modules")]
    return Repaired(list(largest(rows).values()), put, trace.get("image"))


def largest(rows: list[Row]) -> dict[str, Row]:
    """For each probe the row with the largest difference (a row without a number counts as larger than any)."""
    found: dict[str, Row] = {}
    for row in rows:
        kept = found.get(row.place.probe)
        if kept is None or size(row) > size(kept):
            found[row.place.probe] = row
    return found


def size(row: Row) -> float:
    return float("inf") if row.difference is None else row.difference
