"""What four published error figures (largest and mean, absolute and relative) say about two tensors that nobody kept.

Written for zero-mean normal values, independent from element to element: the plainest pair of tensors there is. Expected e
has standard deviation s, actual a has q s, their correlation is rho; d = e - a, rel = |d| / |e|.

    E|d|   = sqrt(2/pi) s sqrt(1 + q² - 2 rho q)        one number; with q = 1, s sqrt(1 - rho) alone
    max|d|   P(max <= m) = (1 - 2 Q(m / sd(d)))^N       tests the tails, given the mean
    rel    = |1 - rho q + gamma C|, C standard Cauchy, gamma = q sqrt(1 - rho²)     no scale is left in it

The last line is Fieller's ratio of normals (Fieller 1932, Biometrika 24): the mean of rel has no expectation, but given the largest
value the others are draws below it, whose mean and variance are closed forms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whydiff.errors import Trouble

SINGLE_TAIL = 0.05  # what the central 90 % leave out on each side: by it a pair (rho, q) counts as compatible


@dataclass(frozen=True)
class Figure:
    """A printed number and the interval that rounds to it: 1.09 is 1.085 to 1.095."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, text, name: str = "figure") -> Figure:
        """From "1.09", "8.26e+04" or a number, whose shortest decimal form is taken. Raises Trouble for anything else, and below 0."""
        match = re.fullmatch(r"\s*\+?(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\s*", str(text))
        if match is None:
            raise Trouble(f"{name} is {text!r}; give a number that is not negative, as it was printed, for example 1.09e+00.")
        half = 0.5 * 10.0 ** (int(match[3] or 0) - len(match[2] or ""))
        value = float(text)
        if not math.isfinite(value):
            raise Trouble(f"{name} is {text!r}, which is too large for a number.")
        return cls(value, max(0.0, value - half), value + half)

    def misses(self, value: float, deviation: float) -> float:
        """How many standard deviations a prediction lies outside the interval; 0 inside."""
        gap = max(self.low - value, value - self.high, 0.0)
        return 0.0 if gap == 0.0 else gap / deviation if deviation > 0 else math.inf


@dataclass(frozen=True)
class Published:
    """Four figures and the number of elements: `Published.read("5.94", "1.09", "8.26e4", "8.62", [1, 16, 1, 147, 110])`."""

    max_abs: Figure
    mean_abs: Figure
    max_rel: Figure
    mean_rel: Figure
    elements: int

    @classmethod
    def read(cls, max_abs, mean_abs, max_rel, mean_rel, shape: Sequence[int]) -> Published:
        """Raises Trouble for figures that no two tensors of that shape can have."""
        if isinstance(shape, str) or not shape or any(type(n) is not int or n < 1 for n in shape):
            raise Trouble(f"shape is {shape!r}; give a list of positive whole numbers, for example [1, 16, 64, 64].")
        named = {"max_abs": max_abs, "mean_abs": mean_abs, "max_rel": max_rel, "mean_rel": mean_rel}
        made = cls(**{name: Figure.read(text, name) for name, text in named.items()}, elements=math.prod(shape))
        for kind in ("abs", "rel"):
            largest, mean = getattr(made, f"max_{kind}"), getattr(made, f"mean_{kind}")
            if mean.low > largest.high or largest.low > mean.high * made.elements:
                raise Trouble(f"a mean of {mean.value:g} and a maximum of {largest.value:g} over {made.elements} elements (mean_{kind}, "
                              f"max_{kind}) contradict each other: the maximum lies between the mean and {made.elements} times it.")  # fmt: skip
        return made

    @property
    def sd_of_difference(self) -> float:
        """sqrt(pi/2) mean|d|: the standard deviation that a zero-mean normal difference of that mean has."""
        return math.sqrt(math.pi / 2) * self.mean_abs.value

    @property
    def spread(self) -> Figure:
        """s sqrt(1 - rho), for equal spreads: all that the mean fixes."""
        return Figure(*(math.sqrt(math.pi) / 2 * x for x in (self.mean_abs.value, self.mean_abs.low, self.mean_abs.high)))

    def correlation(self, s: float) -> float:
        """rho that the mean asks for if both sides have standard deviation s; below -1 where no correlation does."""
        return 1 - (self.spread.value / s) ** 2

    def mean_of(self, s: float = 1.0, rho: float = 0.0, q: float = 1.0) -> tuple[float, float]:
        """Predicted mean|d| and the standard deviation of that mean over draws."""
        sd = s * math.sqrt(max(0.0, 1 + q * q - 2 * rho * q))
        return math.sqrt(2 / math.pi) * sd, sd * math.sqrt((1 - 2 / math.pi) / self.elements)

    def errors_away(self, s: float = 1.0, rho: float = 0.0, q: float = 1.0) -> float:
        """Standard errors between the published mean|d| and what such tensors give; 0 within the figure's rounding."""
        return self.mean_abs.misses(*self.mean_of(s, rho, q))

    def largest_given_mean(self) -> float:
        """P(max|d| <= the published one) for normal differences of the published mean: small where the tails are too light for it."""
        return _none_above(math.erfc(self.max_abs.value / self.sd_of_difference / math.sqrt(2)), self.elements)

    def largest_ratio(self, rho: float, q: float) -> float:
        """P(max rel <= the published one)."""
        offset, gamma = _ratio(rho, q)
        return _none_above(1 - _cauchy_mass(self.max_rel.value, offset, gamma), self.elements)

    def mean_ratio(self, rho: float, q: float = 1.0) -> tuple[float, float, float]:
        """Predicted mean rel given the published maximum: its mean, standard deviation and skewness over draws."""
        offset, gamma = _ratio(rho, q)
        m, n = self.max_rel.value, self.elements
        mass, first, second, third = _folded_moments(m, offset, gamma)
        mean, square, cube = first / mass, second / mass, third / mass
        variance = max(square - mean * mean, 1e-300)
        skewness = (cube - 3 * mean * square + 2 * mean**3) / variance**1.5 / math.sqrt(n)
        return mean + (m - mean) / n, math.sqrt(variance / n), skewness

    def ratio_tail(self, rho: float, q: float = 1.0) -> float:
        """P(mean rel >= the published one | its maximum) for (rho, q), with the first Edgeworth correction for the skewness."""
        mean, deviation, skewness = self.mean_ratio(rho, q)
        z = (self.mean_rel.value - mean) / deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return min(1.0, max(0.0, math.erfc(z / math.sqrt(2)) / 2 + density * skewness / 6 * (z * z - 1)))

    def ratios_that_fit(self, spreads: Sequence[float], correlations: Sequence[float]) -> list[tuple[float, float, float]]:
        """(q, rho, gamma) of the grid for which the published mean rel lies within the central 90 %."""
        return [(float(q), float(rho), float(q * math.sqrt(1 - rho * rho))) for q in spreads for rho in correlations
                if SINGLE_TAIL <= self.ratio_tail(rho, q) <= 1 - SINGLE_TAIL]  # fmt: skip

    def scale_free(self, spreads: Sequence[float] | None = None, correlations: Sequence[float] | None = None) -> tuple[float, float]:
        """Smallest and largest gamma that fits, over q of 0.5 to 2.5 and rho of 0 to 0.95 unless given. Trouble where none does."""
        spreads = np.geomspace(0.5, 2.5, 385) if spreads is None else spreads
        correlations = np.linspace(0, 0.95, 58) if correlations is None else correlations
        gammas = [gamma for _, _, gamma in self.ratios_that_fit(spreads, correlations)]
        if not gammas:
            raise Trouble("no spread and correlation of two normal tensors gives this mean and maximum of the relative error.")
        return min(gammas), max(gammas)


@dataclass(frozen=True)
class Drawn:
    """The four figures of simulated pairs, (draws,) each, and what the published ones are among them."""

    max_abs: np.ndarray
    mean_abs: np.ndarray
    max_rel: np.ndarray
    mean_rel: np.ndarray


def figures_of(expected: np.ndarray, actual: np.ndarray) -> tuple[float, float, float, float]:
    """max|d|, mean|d|, max rel, mean rel of one pair; the slow twin of the formulas. Zeros of `expected` are left out of rel."""
    d = np.abs(expected - actual)
    size = np.abs(expected)
    rel = d[size > 0] / size[size > 0]
    return float(d.max()), float(d.mean()), float(rel.max()), float(rel.mean())


def monte_carlo(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Drawn:
    """The figures of drawn pairs (expected, actual)."""
    return Drawn(*(np.array(column) for column in zip(*(figures_of(e, a) for e, a in pairs))))


def normal_pairs(elements: int, draws: int, rho: float = 0.0, q: float = 1.0, s: float = 1.0, seed: int = 0):
    """Pairs of normals with spreads s and q s and correlation rho."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        e, z = rng.standard_normal((2, elements))
        yield s * e, s * q * (rho * e + math.sqrt(1 - rho * rho) * z)


def _ratio(rho: float, q: float) -> tuple[float, float]:
    if not (-1 < rho < 1 and q > 0):
        raise Trouble(f"a correlation lies between -1 and 1 and a ratio of spreads above 0, got rho {rho:g} and q {q:g}.")
    return 1 - rho * q, q * math.sqrt(1 - rho * rho)


def _none_above(tail: float, n: int) -> float:
    return math.exp(n * math.log1p(-min(tail, 1 - 1e-16)))


def _cauchy_mass(m: float, offset: float, gamma: float) -> float:
    """P(|offset + gamma C| <= m)."""
    return (math.atan((m - offset) / gamma) + math.atan((m + offset) / gamma)) / math.pi


def _folded_moments(m: float, offset: float, gamma: float) -> tuple[float, float, float, float]:
    """Mass and first three moments of |offset + gamma C| below m: y^k gamma / (pi ((y - a)² + gamma²)) over 0 to m, a = ± offset."""
    first = second = third = 0.0
    for a in (offset, -offset):
        low, high = -a, m - a  # u = y - a
        logs = gamma * math.log((high**2 + gamma**2) / (low**2 + gamma**2)) / 2
        angle = math.atan(high / gamma) - math.atan(low / gamma)
        squares = gamma * (m - gamma * angle)  # u² gamma / (u² + gamma²)
        cubes = gamma * (high**2 - low**2) / 2 - gamma**2 * logs
        first += logs + a * angle
        second += squares + 2 * a * logs + a * a * angle
        third += cubes + 3 * a * squares + 3 * a * a * logs + a**3 * angle
    return _cauchy_mass(m, offset, gamma), first / math.pi, second / math.pi, third / math.pi
