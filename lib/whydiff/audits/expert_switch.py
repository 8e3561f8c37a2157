"""Which settings put the change of experts at the step where it was seen, and who configured them?"""

from __future__ import annotations

import csv
import dataclasses
import pathlib

from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.errors import Trouble
from whydiff.formulas.schedule import GRIDS, grid_sigmas, switch_step
from whydiff.formulas.schedule_switch import (
    ShiftInterval,
    boundaries_for_switch,
    solve_switch,
    steps_for_switch,
    switch_of,
)

NAME = "expert_switch"
QUESTION = "Which shift put the change of experts at the step where it was seen, and who configured that shift?"


@dataclasses.dataclass(frozen=True)
class Configured:
    """A shift that somebody's code or file holds. `where`: model, path or version; `source`: where that was looked up."""

    shift: float
    where: str
    source: str = ""


def audit(switch: int, steps: int, boundary: float, meant: float, configured: list[Configured], grid: str = "flow_unipc") -> AuditResult:
    """Solve an observed switch backwards. `switch`: from 0; `meant`: the shift the run was thought to have; `grid`: the one that ran.

    `same` where the shift that was meant puts the switch there, `different` where another configured one does on that grid,
    `incomparable` where none does.
    """
    if grid not in GRIDS:
        raise Trouble(f"unknown grid {grid!r}. Known: {', '.join(GRIDS)}.")
    intervals = solve_switch(steps, boundary, switch, None)
    here = [interval for interval in intervals if interval.grid == grid]
    values = sorted({entry.shift for entry in configured})
    fitting = [shift for shift in values if any(shift in interval for interval in here)]
    expected = switch_of(meant, steps, boundary, grid)
    if expected == switch:
        word = "same"
    else:
        word = "different" if fitting else "incomparable"
    return AuditResult(
        NAME,
        QUESTION,
        word,
        tuple(_findings(switch, steps, boundary, meant, expected, here, values, fitting, grid)),
        ("shift", "configured for", "switches at step", "tqdm shows", "as seen", "source"),
        tuple(_row(entry, switch, steps, boundary, grid) for entry in sorted(configured, key=lambda e: (e.shift, e.where))),
        {"intervals": tuple(intervals), "configured": tuple(values), "fitting": tuple(fitting),
         "steps": Table(("shift", "numbers of steps that switch there", "boundaries that switch there"),
                        tuple(_other_ways(shift, steps, boundary, switch, grid) for shift in values))},
    )  # fmt: skip


def _findings(switch, steps, boundary, meant, expected, here: list[ShiftInterval], values, fitting, grid):
    yield Sentence(f"shift {meant:g} switches at step {expected} of {steps} (tqdm {expected + 1}), boundary {boundary:g}, grid {grid}")
    for interval in here:
        yield Sentence(f"the switch was seen at step {switch} (tqdm {switch + 1}), which takes a shift in "
                       f"[{interval.low:.4g}, {interval.high:.4g})")  # fmt: skip
    if not here:
        yield Sentence(f"the switch was seen at step {switch}; no shift puts it there")
    known = ", ".join(f"{value:g}" for value in values) or "none"
    if len(fitting) == 1:
        yield Sentence(f"of the shifts configured ({known}) only {fitting[0]:g} does")
    else:
        found = ", ".join(f"{value:g}" for value in fitting) or "none"
        yield Sentence(f"of the shifts configured ({known}) these do: {found}")


def _row(entry: Configured, switch, steps, boundary, grid):
    at = switch_of(entry.shift, steps, boundary, grid)
    return (f"{entry.shift:g}", entry.where, at, at + 1, "yes" if at == switch else "", entry.source)


def _other_ways(shift: float, steps: int, boundary: float, switch: int, grid: str):
    counts = steps_for_switch(shift, boundary, switch, grid)
    limits = boundaries_for_switch(shift, steps, switch, grid)
    words = "none" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (f"{shift:g}", words, "none" if limits is None else f"above {limits[0]:.4g}, up to {limits[1]:.4g}")


def other_branches(steps: int, boundary: float) -> Table:
    """Where the installed diffusers' UniPC switches on the grids it has besides flow sigmas, which know no flow shift."""
    from diffusers import UniPCMultistepScheduler

    rows = []
    for name in ("linear", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"):
        scheduler = UniPCMultistepScheduler(**({} if name == "linear" else {name: True}))
        scheduler.set_timesteps(steps)
        rows.append((name.removeprefix("use_").replace("_", " "), switch_step(scheduler.timesteps.numpy(), boundary)))
    return Table(("grid", "switches at step"), tuple(rows))


def table_error(path, shift: float, grid: str) -> float:
    """The largest distance of a table of timesteps (CSV with the columns step and timestep) from a grid's, 0 to 1000."""
    rows = _timesteps(path)
    sigmas = grid_sigmas(grid, len(rows), shift)
    return max(abs(1000 * float(sigmas[step]) - timestep) for step, timestep in rows.items())


def beside_table(path, shift: float, grids: tuple[str, ...], boundary: float) -> Table:
    """A table of timesteps (CSV) row by row beside those of `grids`, as their schedulers hand them on, and the expert that runs."""
    noted = _timesteps(path)
    made = {grid: 1000 * grid_sigmas(grid, len(noted), shift) for grid in grids}
    rows = [(step, f"{timestep:g}", *(f"{made[grid][step]:.2f}" for grid in grids), int(made[grids[-1]][step]),
             "first" if int(made[grids[-1]][step]) >= 1000 * boundary else "second") for step, timestep in noted.items()]  # fmt: skip
    worst = (f"{table_error(path, shift, grid):.2f}" for grid in grids)
    return Table(("step", "in the note", *grids, f"handed on by {grids[-1]}", "expert"), (*rows, ("largest error", "", *worst, "", "")))


def _timesteps(path) -> dict[int, float]:
    path = pathlib.Path(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        return {int(row["step"]): float(row["timestep"]) for row in csv.DictReader(lines)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise Trouble(f"{path} is no table of step and timestep ({type(error).__name__}: {error}).") from None


def read_resolved(path) -> list[tuple[str, str, str, float]]:
    """(framework, version, model path, shift) rows of a CSV file with those columns; lines that begin with `#` are left out."""
    path = pathlib.Path(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        return [(r["framework"], r["version"], r["path"], float(r["shift"])) for r in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise Trouble(f"{path} is no table of framework, version, path and shift ({type(error).__name__}: {error}).") from None


def resolved_table(rows, framework: str) -> Table:
    """The shift that each model path resolves to: one row for each path, one column for each version of a framework."""
    rows = [row for row in rows if row[0] == framework]
    versions = list(dict.fromkeys(row[1] for row in rows))
    value = {(path, version): shift for _, version, path, shift in rows}
    paths = list(dict.fromkeys(row[2] for row in rows))
    cells = tuple((path, *(f"{value[path, v]:g}" if (path, v) in value else "" for v in versions)) for path in paths)
    return Table(("model path", *versions), cells)


def paths_with(rows, framework: str, version: str, shifts) -> list[str]:
    """The model paths that a version of a framework resolves to one of `shifts`."""
    return [path for name, v, path, shift in rows if (name, v) == (framework, version) and shift in set(shifts)]
