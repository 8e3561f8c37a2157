"""Which settings explain observed sigmas: which grid, shift, end point, number of steps?"""

import math
from dataclasses import dataclass, field

import numpy as np

from whydiff.errors import Trouble
from whydiff.formulas.observed_sigmas import Observed, observe
from whydiff.formulas.schedule import (
    GRIDS,
    exponential_sigmas,
    grid_sigmas,
    karras_sigmas,
    linear_grid,
    mu_from_tokens,
    shift_sigmas,
    stretch_to_terminal,
    tokens_from_mu,
    unshift_sigmas,
)
from whydiff.formulas.schedule_switch import ShiftInterval, solve_switch

__all__ = ["ScheduleFit", "ShiftInterval", "solve_schedule", "solve_switch"]


@dataclass(frozen=True)
class ScheduleFit:
    """One explanation: ``grid`` shifted by ``shift`` = exp(``mu``). Distances are relative L2 over the sigmas."""

    grid: str  # one of GRIDS, or 'linear' (end points fitted), 'karras', 'exponential'
    shift: float | None
    mu: float | None
    steps: int  # of the whole schedule; more than observed where only its tail was
    last: float  # the last sigma before a final 0, as predicted
    terminal: bool  # whether a final 0 follows
    residual: float
    free: float  # numbers that had to be fitted; 0 where all follow from config, tokens, or a convention
    explains: bool  # the residual is what rounding of the observation allows
    words: str
    parameters: dict = field(hash=False)
    sigmas: tuple = field(repr=False, hash=False)  # as predicted, without the final 0

    def to_dict(self) -> dict:
        """JSON-safe, without the predicted values."""
        names = ("grid", "shift", "mu", "steps", "last", "terminal", "residual", "free", "explains", "words")
        return {name: getattr(self, name) for name in names} | {"parameters": self.parameters}

    def __str__(self) -> str:
        verb = "explains" if self.explains else "does not explain"
        return f"{self.words}: {verb} the sigmas (residual {self.residual:.2g}, {self.free:g} fitted)"


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # of numbers that are no sigmas: what is not finite explains nothing
def solve_schedule(sigmas_observed, steps: int | None = None, tokens: int | None = None,
                   config: dict | None = None) -> list[ScheduleFit]:
    """All explanations of (N,) or (N + 1,) sigmas in [0, 1] or timesteps in [0, 1000], best first.

    Explaining ones come first, by number of fitted parameters, then by residual; the others by residual. ``steps`` is
    the length of the whole schedule where the observation is its tail (image to image). ``tokens`` is the length of
    the latent sequence, for dynamic shifting. ``config`` is a scheduler config: shift, flow_shift, base_shift,
    max_shift, base_image_seq_len, max_image_seq_len, shift_terminal. Raises Trouble for an observation that is no
    one-dimensional list of finite numbers.
    """
    seen = observe(sigmas_observed)
    n = len(seen.values)
    config = dict(config or {})
    total = steps or n
    if total < n:
        raise Trouble(f"{n} sigmas were observed (without a final 0), more than the {steps} steps given.")
    fits, stretch = [], _stretch(seen, config)
    for grid in GRIDS:
        fits += _shifted(seen, grid, total, total - n, None, tokens, config)
        if not any(fit.explains and not fit.free for fit in fits):
            fits += _shifted(seen, grid, total, total - n, stretch, tokens, config)
    if total == n and n >= 4:
        fits += _end_points(seen, tokens, config) + _signal_ratio(seen)
    if steps is None and not any(fit.explains for fit in fits):
        for longer in range(n + 1, min(4 * n, n + 60) + 1):
            for grid in GRIDS:
                for start in {longer - n, 0} if longer == n + 1 else {longer - n}:
                    fits += [f for f in _shifted(seen, grid, longer, start, None, tokens, config) if f.explains]
    return sorted(fits, key=lambda f: (not f.explains, f.free if f.explains else 0, f.residual, f.grid))


def _shifted(seen: Observed, grid: str, steps: int, start: int, stretch: float | None, tokens, config) -> list:
    """Fits of one grid: with each named shift that explains, and with the shift of least squares."""
    n = len(seen.values)

    def predict(mu: float) -> np.ndarray:
        sigmas = grid_sigmas(grid, steps, math.exp(mu))
        return (sigmas if stretch is None else _stretched(sigmas, stretch))[start : start + n]

    if stretch is not None and not 0 < stretch < 1:
        return []
    fitted = _least_squares(predict, seen, first=_first_guess(predict, seen) if stretch is None else None)
    if fitted is None:
        return []
    found, known_stretch = [], stretch is None or stretch == config.get("shift_terminal")
    extra = (0 if known_stretch else 1) + (0 if start == 0 and steps == n or steps != n and start else 0.5)
    for mu, free, why, about in [*_named_shifts(fitted, tokens, config), (fitted, 1, "", {})]:
        values = predict(mu)
        explains = seen.explained_by(values, stretch is not None)
        last_resort = mu == fitted and not any(f.explains for f in found)
        if not (explains and (free < 1 or not any(f.explains for f in found)) or last_resort):
            continue
        words = f"{GRIDS[grid][1]}, {_shift_words(mu)}{why}"
        parameters = {"shift": _exp(mu), "mu": mu} | about
        if stretch is not None:
            words += f", stretched to end at {stretch:.6g}"
            parameters["shift_terminal"] = stretch
        if steps != n:
            words += f", steps {start} to {start + n - 1} of {steps}"
            parameters |= {"steps": steps, "start": start}
        found.append(_fit(seen, grid, mu, steps, values, free + extra, words, parameters))
    return found


def _stretch(seen: Observed, config: dict) -> float:
    """The value to which a list is stretched: its last one, or the config's own where that is what was seen.

    The stretch is computed as 1 - (1 - sigma) / scale, so its rounding is that of float32 at 1, whatever the value.
    """
    last, stated = float(seen.values[-1]), config.get("shift_terminal")
    return float(stated) if stated and abs(last - stated) <= 4 * 2.0**-24 else last


def _named_shifts(fitted: float, tokens, config: dict):
    """(mu, parameters it costs, words, about) for shifts that have a reason, cheapest first, then round ones."""
    yield 0.0, 0, "", {}
    for key in ("shift", "flow_shift"):
        if config.get(key) and config[key] > 0:
            yield math.log(config[key]), 0, f" ({key} of the config)", {"from": key}
    line = (config.get("base_shift") or 0.5, config.get("max_shift") or 1.15,
            config.get("base_image_seq_len") or 256, config.get("max_image_seq_len") or 4096)
    if line[0] == line[1]:  # one shift for every number of tokens
        yield line[0], 0, " (base_shift and max_shift of the config)", {"from": "base_shift"}
        tokens = None
    if tokens:
        yield mu_from_tokens(tokens, *line), 0, f" ({tokens} tokens)", {"tokens": tokens, "tokens_ratio": 1.0}
        ratio = tokens_from_mu(fitted, *line) / tokens
        for k in range(2, 17):
            near = float(k) if ratio > 1 else 1 / k
            if abs(ratio / near - 1) < 0.02:
                count = tokens * near
                words = f" ({count:g} tokens, {'' if ratio > 1 else '1/'}{k} times the {tokens} there are)"
                yield mu_from_tokens(count, *line), 0.5, words, {"tokens": count, "tokens_ratio": near}
    implied = 0 if line[0] == line[1] else round(tokens_from_mu(fitted, *line))
    if not tokens and 0 < implied < 1_000_000 and config.get("use_dynamic_shifting"):
        yield mu_from_tokens(implied, *line), 1, f" (as for {implied} tokens)", {"tokens": implied}
    for digits in (1, 2, 3, 4):
        yield math.log(float(f"{math.exp(fitted):.{digits}g}")), 1, "", {}
        yield float(f"{fitted:.{digits}g}"), 1, "", {}


def _end_points(seen: Observed, tokens, config: dict) -> list[ScheduleFit]:
    """Any linear grid, end points and shift unknown: unshifted by the right shift the values lie on a line."""
    n = len(seen.values)
    index = np.arange(n)

    def line(mu: float) -> tuple[float, float]:
        slope, first = np.polyfit(index, unshift_sigmas(seen.values, math.exp(mu)), 1)
        ends = float(first), float(first + slope * (n - 1))
        return tuple(float(s) if s in (0.0, 1.0) else end for s, end in zip(seen.values[[0, -1]], ends))  # no shift moves 0 and 1

    def predict(mu: float, ends=None) -> np.ndarray:
        return shift_sigmas(linear_grid(n, *(ends or line(mu))), math.exp(mu))

    fitted = _least_squares(predict, seen)
    if fitted is None or not seen.explained_by(predict(fitted)):
        return []
    for mu, free, why, about in [*_named_shifts(fitted, tokens, config), (fitted, 1, "", {})]:
        first, last = line(mu)
        for start, extra in ((1.0, 0), (first, 1)):
            for end in (*(float(f"{last:.{digits}g}") for digits in (1, 2, 3, 4)), last):
                values = predict(mu, (start, end))
                if seen.explained_by(values):
                    words = f"linspace({start:.6g}, {end:.6g}, {n}), {_shift_words(mu)}{why}"
                    parameters = {"shift": _exp(mu), "mu": mu, "first": start, "last": end} | about
                    return [_fit(seen, "linear", mu, n, values, free + extra + 1, words, parameters)]
    return []


def _signal_ratio(seen: Observed) -> list[ScheduleFit]:
    """Karras and exponential grids, in units of signal and as σ / (1 + σ); their two ends are those observed."""
    fits = []
    for flow in (True, False):
        if flow and not 0 < seen.values.min() <= seen.values.max() < 1 or seen.values.min() <= 0:
            continue
        ends = seen.values[[-1, 0]] / (1 - seen.values[[-1, 0]]) if flow else seen.values[[-1, 0]]
        for name, grid in (("karras", karras_sigmas), ("exponential", exponential_sigmas)):
            values = grid(len(seen.values), *map(float, ends))
            values = values / (1 + values) if flow else values
            words = f"{name} grid from {ends[1]:.6g} to {ends[0]:.6g}{', as sigma / (1 + sigma)' if flow else ''}"
            parameters = {"sigma_min": float(ends[0]), "sigma_max": float(ends[1]), "flow": flow}
            fits.append(_fit(seen, name, None, len(values), values, 2, words, parameters))
    return fits


def _fit(seen: Observed, grid, mu, steps, values, free, words, parameters) -> ScheduleFit:
    words += ", then 0" if seen.terminal else ""
    if seen.rounding and seen.residual(values) > 1e-6:  # below that nothing was lost, the values are just round
        words += f", {seen.rounding}"
        parameters = parameters | {"rounding": seen.rounding}
    residual = seen.residual(values)
    explains = math.isfinite(residual) and seen.explained_by(values, "shift_terminal" in parameters)
    return ScheduleFit(grid, None if mu is None else _exp(mu), mu, steps, float(values[-1]), seen.terminal, residual, free, explains, words,
                       parameters, tuple(values))  # fmt: skip


def _exp(mu: float) -> float:
    """exp(mu) without the last digits, so that the logarithm of 3.0 comes back as 3.0."""
    return float(f"{math.exp(mu):.12g}")


def _shift_words(mu: float) -> str:
    return "not shifted" if mu == 0 else f"shift {math.exp(mu):.6g} (mu {mu:.6g})"


def _stretched(sigmas: np.ndarray, terminal: float) -> np.ndarray:
    return stretch_to_terminal(sigmas, terminal) if sigmas[-1] < 1 else sigmas


def _first_guess(predict, seen: Observed) -> float | None:
    """Each inner sigma gives the shift in closed form, s = σ (1 - b) / (b (1 - σ)); the median of their logarithms."""
    mu = 0.0
    for _ in range(3):  # grids whose ends depend on the shift need a second look
        b, s = unshift_sigmas(predict(mu), math.exp(mu)), seen.values
        inner = (b > 0) & (b < 1) & (s > 0) & (s < 1)
        if not inner.any():
            return None
        b, s = b[inner], s[inner]
        mu = float(np.clip(np.median(np.log(s / (1 - s)) - np.log(b / (1 - b))), -10, 10))
    return mu


def _least_squares(predict, seen: Observed, first: float | None = None) -> float | None:
    """The mu of least squares: Gauss-Newton with a numerical derivative, from a guess or from the best of a scan."""
    def distance(mu: float) -> float:
        return float(np.linalg.norm(predict(mu) - seen.values))

    with np.errstate(all="ignore"):
        mu = first if first is not None else min(np.linspace(-4, 6, 81), key=distance)
        best = distance(mu)
        for _ in range(30):
            h = 1e-5
            slope = (predict(mu + h) - predict(mu - h)) / (2 * h)
            square = float(slope @ slope)
            if not square > 0:
                break
            move = float(np.clip(slope @ (seen.values - predict(mu)) / square, -1, 1))
            while abs(move) > 1e-12 and not distance(mu + move) <= best:
                move /= 2
            if abs(move) <= 1e-12:
                break
            mu, best = mu + move, distance(mu + move)
    return float(mu) if math.isfinite(best) else None
