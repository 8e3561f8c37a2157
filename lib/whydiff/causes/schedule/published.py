"""Which grid of sigmas the reference code of a model walks, from the atlas; the model is known by the names of a side's classes."""

from __future__ import annotations

import pathlib
import re

from whydiff.errors import Trouble
from whydiff.evidence.surroundings.defaults import atlas
from whydiff.formulas.schedule import GRIDS, grid_sigmas
from whydiff.measure.compare import relative_l2

SAME = 1e-6  # relative distance of float32 lists that were computed in another order
OFFICIAL = "official_"  # how the atlas's files on reference code begin


def published_grid(lab) -> tuple[str, str] | None:
    """(one of `GRIDS`, its source) for the family of models that a side's pipeline or network is called after; None if not known."""
    classes = [name.lower() for trace in lab.traces.values() if trace is not None for name in _classes(trace.producer)]
    found = {entry.value: next(iter(entry.sources.values())) for entry in _entries()
             if any(name.startswith(re.match(r"[A-Za-z]*", model)[0].lower()) for model in entry.models for name in classes)}  # fmt: skip
    return next(iter(found.items())) if len(found) == 1 else None


def follows(sigmas, grid: str, steps: int, shift: float) -> bool:
    """Do observed sigmas, (N,) or (N + 1,) with the final 0, lie on a grid with this shift?"""
    made = sigmas.new_tensor(grid_sigmas(grid, steps, shift))
    return len(sigmas) in (steps, steps + 1) and relative_l2(made, sigmas[:steps]) <= SAME


def words_of(grid: str) -> str:
    return f" ({GRIDS[grid][1]})" if grid in GRIDS else ""


def _entries() -> list:
    try:
        known = atlas()
    except Trouble:  # whydiff without its data
        return []
    return [entry for framework in known.frameworks.values() for entry in framework.entries
            if entry.key == "sigma_grid" and pathlib.PurePath(entry.file).name.startswith(OFFICIAL)]  # fmt: skip


def _classes(producer: dict) -> list[str]:
    """The bare names of a side's pipeline and of its components' classes."""
    parts = producer.get("components")
    held = [str(part.get("class", "")) for part in parts.values() if isinstance(part, dict)] if isinstance(parts, dict) else []
    return [name.rpartition(".")[2] for name in (str(producer.get("name", "")), *held)]
