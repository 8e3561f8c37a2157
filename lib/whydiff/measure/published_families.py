"""Pairs of tensors that could have been compared: hypotheses for published figures, as things to draw.

None is a measured distribution of a real model's latents. Fields with spectrum f^-k are smooth over the two last axes and have unit
spread in every channel; `mean` and `std` (C,) take them to an autoencoder's own space, z · std + mean.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from whydiff.errors import Trouble
from whydiff.measure.published import Drawn, Published, figures_of


@dataclasses.dataclass(frozen=True)
class Family:
    """A hypothesis. `pair(rng, shape, s)` draws (expected, actual); `s` scales the fields where `free`, else it is 1."""

    name: str
    pair: Callable[[np.random.Generator, tuple[int, ...], float], tuple[np.ndarray, np.ndarray]]
    free: bool = True


@dataclasses.dataclass(frozen=True)
class Judged:
    """A family beside the published figures. `z`: standard deviations between each figure and the family's own."""

    name: str
    s: float
    drawn: Drawn  # mean_rel given the published maximum
    z: dict[str, float]

    @property
    def excluded(self) -> bool:
        """A figure lies further than five standard deviations outside: one chance in millions, were it normal."""
        return any(abs(z) > 5 for z in self.z.values())

    @property
    def words(self) -> str:
        """`disfavoured` begins where a handful of draws can no longer be the reason: three and a half of their deviations."""
        worst = max(self.z, key=lambda k: abs(self.z[k]))
        if self.excluded:
            return f"excluded by {worst}"
        return f"disfavoured by {worst}" if abs(self.z[worst]) > 3.5 else "compatible"


def field(rng: np.random.Generator, shape: Sequence[int], power: float = 0.0) -> np.ndarray:
    """Normal values with unit spread in each channel (axis 1) and spatial power spectrum f^-power."""
    z = rng.standard_normal(shape)
    if power:
        rows, columns = np.meshgrid(np.fft.fftfreq(shape[-2]), np.fft.rfftfreq(shape[-1]), indexing="ij")
        frequency = np.hypot(rows, columns)
        frequency[0, 0] = frequency.flat[1:].min()
        z = np.fft.irfft2(np.fft.rfft2(z) * frequency ** (-power / 2), s=shape[-2:])
        axes = tuple(range(2, len(shape)))
        z = (z - z.mean(axes, keepdims=True)) / z.std(axes, keepdims=True)
    return z


def normal_family(name: str, rho: float = 0.0, q: float = 1.0, powers: tuple[float, float] = (0.0, 0.0), free: bool = True) -> Family:
    """Two fields of correlation rho, the second q times as wide."""

    def pair(rng, shape, s):
        e, z = field(rng, shape, powers[0]), field(rng, shape, powers[1])
        return s * e, s * q * (rho * e + math.sqrt(1 - rho * rho) * z)

    return Family(name, pair, free)


def decoded_family(name: str, mean, std, expected: bool = True, actual: bool = True, same: bool = False, rho: float = 0.0,
                   power: float = 2.0) -> Family:  # fmt: skip
    """Smooth latents of which each side is un-normalised (z · std + mean) or not; `same`: one latent on both sides."""

    def pair(rng, shape, s):
        view = (1, -1, *[1] * (len(shape) - 2))
        e = field(rng, shape, power)
        a = e if same else rho * e + math.sqrt(1 - rho * rho) * field(rng, shape, power)
        m, d = np.asarray(mean).reshape(view), np.asarray(std).reshape(view)
        return (s * e * d + m if expected else s * e), (s * a * d + m if actual else s * a)

    return Family(name, pair)


def usual_families(mean, std) -> list[Family]:
    """The hypotheses that a difference after sampling suggests; mean and std are the autoencoder's, one value a channel."""
    smooth = (2.0, 2.0)
    return [
        normal_family("two noises, unit spread", free=False),
        normal_family("smooth latents, independent", powers=smooth),
        normal_family("smooth latents, spread 1.5 and rho 0.6", 0.6, 1.5, smooth),
        normal_family("smooth latents, equal spread, rho 0.6", 0.6, 1.0, smooth),
        normal_family("latent against unit noise", powers=(2.0, 0.0)),
        decoded_family("both un-normalised, independent", mean, std),
        decoded_family("un-normalised on the expected side alone", mean, std, actual=False, same=True),
        decoded_family("un-normalised on the actual side alone", mean, std, expected=False, same=True),
        Family("actual is zero", lambda rng, shape, s: (s * field(rng, shape), np.zeros(shape))),
        Family("sign flipped", lambda rng, shape, s: (pair := s * field(rng, shape), -pair)),
    ]


def judge(published: Published, family: Family, shape: Sequence[int], draws: int = 12, seed: int = 0) -> Judged:
    """Draw a family, its scale fitted to the mean where it is free, and hold the other figures against it."""
    shape = tuple(shape)
    if len(shape) < 4 or math.prod(shape) != published.elements:
        raise Trouble(f"a family is drawn as (batch, channels, ..., height, width) with {published.elements} elements, got {list(shape)}.")
    if draws < 4:
        raise Trouble(f"a spread over draws needs at least 4 of them, got {draws}.")
    s = _fitted(published, family, shape, seed) if family.free else 1.0
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        e, a = family.pair(rng, shape, s)
        largest, mean, most, _ = figures_of(e, a)
        rows.append((largest, mean, most, _given_maximum(e, a, published)))
    drawn = Drawn(*(np.array(column) for column in zip(*rows)))
    z = {name: _misses(getattr(published, name), getattr(drawn, name))
         for name in ("max_abs", "mean_rel", *(() if family.free else ("mean_abs",)))}  # fmt: skip
    return Judged(family.name, s, drawn, z)


def _given_maximum(e: np.ndarray, a: np.ndarray, published: Published) -> float:
    """The mean of rel, had its largest value been the published one: the others lie below it."""
    rel = np.abs(e - a)[e != 0] / np.abs(e[e != 0])
    m = published.max_rel.value
    below = rel[rel < m]
    return float(below.mean() + (m / rel.size if below.size < rel.size or below.max() > m / 100 else 0.0))


def _fitted(published: Published, family: Family, shape, seed: int) -> float:
    """The scale under which one draw has the published mean|d|; bisection where a mean keeps it from being proportional."""

    def mean(s: float) -> float:
        e, a = family.pair(np.random.default_rng(seed), shape, s)
        return float(np.abs(e - a).mean())

    at_one = mean(1.0)
    proportional = published.mean_abs.value / at_one
    if math.isclose(mean(2.0), 2 * at_one, rel_tol=1e-9):
        return proportional
    low, high = proportional / 8, proportional * 8
    for _ in range(14):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean(middle) < published.mean_abs.value else (low, middle)
    return math.sqrt(low * high)


def _misses(figure, values: np.ndarray) -> float:
    middle, spread = float(values.mean()), float(values.std(ddof=1))
    return math.copysign(figure.misses(middle, spread), figure.value - middle)
