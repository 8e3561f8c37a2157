"""Which values of a list stand out from the rest of it, and how far out chance alone puts one."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

CHANCE = 1e-3  # of one false alarm in a whole list of normal values


@dataclasses.dataclass(frozen=True)
class Outliers:
    """`indices` of (N,) values that stand out. `middle`, `spread`: median, and MAD as a standard deviation.

    `limit` is the distance from `middle` that counts, in spreads; what the values are uncertain by comes on top.
    """

    indices: tuple[int, ...]
    middle: float
    spread: float
    limit: float


def outlying(values, errors=0.0, chance: float = CHANCE) -> Outliers:
    """The values that stand out on either side of the median by more than chance and their own errors allow.

    The limit is measured: of lists of as many normal values, a share `chance` has one so far out. `errors`: how far each
    value may be from the true one, a number or (N,). Fewer than 5 values have no outliers: their spread is not known.
    """
    values = np.asarray(values, dtype=np.float64)
    errors = np.broadcast_to(np.asarray(errors, dtype=np.float64), values.shape)
    if len(values) < 5:
        return Outliers((), float(np.median(values)) if len(values) else float("nan"), float("nan"), float("inf"))
    middle = float(np.median(values))
    distance = np.abs(values - middle)
    spread = 1.4826 * float(np.median(distance))
    limit = limit_by_chance(len(values), chance)
    out = distance > limit * spread + errors + float(np.median(errors)) + 1e-9 * max(1.0, abs(middle))
    return Outliers(tuple(int(i) for i in np.flatnonzero(out)), middle, spread, limit)


@functools.lru_cache(maxsize=64)
def limit_by_chance(count: int, chance: float = CHANCE) -> float:
    """The distance from the median, in spreads, that the farthest of `count` normal values passes with that chance.

    By drawing lists (seeded): with few values the spread itself is uncertain, which a table of the normal distribution
    does not know. At 1 in 1000: 11 spreads for 10 values, 7 for 27, 5.5 for 50.
    """
    lists = max(4000, min(40000, 2_000_000 // count))
    draws = np.random.default_rng(0).standard_normal((lists, count))
    distance = np.abs(draws - np.median(draws, axis=1, keepdims=True))
    spread = 1.4826 * np.median(distance, axis=1)
    return float(np.quantile(distance.max(axis=1) / spread, 1 - chance))
