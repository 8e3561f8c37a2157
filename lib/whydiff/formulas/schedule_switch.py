"""Which shifts, steps and boundaries put the change of experts (Wan2.2's high to low noise) at a given step?"""

import math
from dataclasses import dataclass

from whydiff.errors import Trouble
from whydiff.formulas.schedule import GRIDS, INTEGER_TIMESTEPS, grid_sigmas, switch_step, timesteps_from_sigmas


@dataclass(frozen=True)
class ShiftInterval:
    """Half-open [low, high): the shifts that give ``switch`` (counted from 0) on ``grid``."""

    low: float
    high: float
    grid: str
    steps: int
    boundary: float
    switch: int

    def __contains__(self, shift: float) -> bool:
        return self.low <= shift < self.high

    def __str__(self) -> str:
        return (f"{self.grid}: shift in [{self.low:.5f}, {self.high:.5f}) switches at step {self.switch} "
                f"of {self.steps} (tqdm {self.switch + 1}), boundary {self.boundary:g}")


def solve_switch(steps: int, boundary: float, switch: int, grid: str | None = "unipc") -> list[ShiftInterval]:
    """The interval of shifts that gives ``switch``, on one grid, or on each of `GRIDS` for ``grid=None``.

    Step k is the switch when σ(k-1) ≥ boundary > σ(k); every σ grows with the shift, so one interval answers. Grids
    with integer timesteps compare trunc(1000 σ) with 1000 · boundary. Empty where no shift does it.
    """
    if not 0 <= switch <= steps:
        raise Trouble(f"the switch must be a step from 0 to {steps}, got {switch}.")
    if grid is not None and grid not in GRIDS:
        raise Trouble(f"unknown grid {grid!r}. Known: {', '.join(GRIDS)}.")
    found = []
    for name in GRIDS if grid is None else [grid]:
        limit = boundary
        if name in INTEGER_TIMESTEPS:  # trunc(t) ≥ b is t ≥ ceil(b); 1e-9: 0.9 · 1000 must not become 901
            limit = math.ceil(1000 * boundary - 1e-9) / 1000
        low = 0.0 if switch == 0 else _shift_reaching(limit, steps, switch - 1, name)
        high = math.inf if switch == steps else _shift_reaching(limit, steps, switch, name)
        if low < high:
            found.append(ShiftInterval(low, high, name, steps, boundary, switch))
    return found


def switch_of(shift: float, steps: int, boundary: float, grid: str = "unipc") -> int:
    """The first step, from 0, below ``boundary``, on the grid as it is run: integer timesteps where it has them."""
    sigmas = grid_sigmas(grid, steps, shift)
    return switch_step(timesteps_from_sigmas(sigmas, integer=grid in INTEGER_TIMESTEPS), boundary)


def steps_for_switch(shift: float, boundary: float, switch: int, grid: str = "unipc", most: int = 200) -> list[int]:
    """The numbers of steps up to ``most`` for which that shift switches at ``switch``. They are neighbours, or none."""
    return [steps for steps in range(max(switch, 1), most + 1) if switch_of(shift, steps, boundary, grid) == switch]


def boundaries_for_switch(shift: float, steps: int, switch: int, grid: str = "unipc") -> tuple[float, float] | None:
    """(low, high]: the boundaries for which that shift switches at ``switch``; None where no boundary does."""
    sigmas = grid_sigmas(grid, steps, shift)
    levels = timesteps_from_sigmas(sigmas, integer=grid in INTEGER_TIMESTEPS) / 1000
    if not 0 <= switch <= steps:
        raise Trouble(f"the switch must be a step from 0 to {steps}, got {switch}.")
    low = -math.inf if switch == steps else float(levels[switch])
    high = math.inf if switch == 0 else float(levels[switch - 1])
    return (low, high) if low < high else None


def _shift_reaching(sigma: float, steps: int, index: int, grid: str) -> float:
    """The smallest shift for which σ(index) ≥ sigma, by bisection of its logarithm; inf or 0 where all or none do."""
    low, high = math.log(1e-6), math.log(1e6)
    if grid_sigmas(grid, steps, math.exp(high))[index] < sigma:
        return math.inf
    if grid_sigmas(grid, steps, math.exp(low))[index] >= sigma:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if grid_sigmas(grid, steps, math.exp(middle))[index] >= sigma:
            high = middle
        else:
            low = middle
    return math.exp(high)
