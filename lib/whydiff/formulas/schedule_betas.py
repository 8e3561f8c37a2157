"""Variance-preserving schedules: which formula of betas gives an observed product of alphas?

alphas_cumprod[t] = prod(1 - beta[0..t]), (T,), T = 1000 as a rule; the betas grow from `start` to `end`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

FORMULAS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")


@dataclass(frozen=True)
class BetaFit:
    """One formula with its end points; ``zero_snr``: rescaled so that the last alpha is 0 (arXiv 2305.08891)."""

    formula: str
    start: float | None
    end: float | None
    zero_snr: bool

    def __str__(self) -> str:
        ends = "" if self.start is None else f" from {self.start:.6g} to {self.end:.6g}"
        return f"{self.formula} betas{ends}" + (", rescaled to zero terminal SNR" if self.zero_snr else "")


def betas(formula: str, count: int, start: float = 0.0001, end: float = 0.02) -> np.ndarray:
    """(count,) float64. linear: DDPM; scaled_linear: linear in sqrt(beta), Stable Diffusion; squaredcos_cap_v2: arXiv
    2102.09672, equation 17; sigmoid: GeoDiff."""
    if formula == "linear":
        return np.linspace(start, end, count)
    if formula == "scaled_linear":
        return np.linspace(math.sqrt(start), math.sqrt(end), count) ** 2
    if formula == "sigmoid":
        return (end - start) / (1 + np.exp(-np.linspace(-6, 6, count))) + start
    bar = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - bar[1:] / bar[:-1], 0.999)


def alphas_cumprod(formula: str, count: int, start: float = 0.0001, end: float = 0.02, zero_snr: bool = False) -> np.ndarray:
    """(count,) float64, descending."""
    bar = np.cumprod(1 - betas(formula, count, start, end))
    return rescale_zero_snr(bar) if zero_snr else bar


def rescale_zero_snr(bar: np.ndarray) -> np.ndarray:
    """sqrt(bar) shifted and scaled so that the last is 0 and the first stays: Lin et al. 2023, algorithm 1."""
    root = np.sqrt(bar)
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def solve_betas(bar, tolerance: float = 2e-5) -> BetaFit | None:
    """The formula, with the end points it needs, that gives (T,) alphas_cumprod to `tolerance` of their root; None if none.

    A rescaled schedule is recognised by its last alpha of 0; what the alphas were before is found by trying each formula
    with the end points in use.
    """
    bar = np.asarray(bar, dtype=np.float64)
    if bar.ndim != 1 or len(bar) < 8 or not np.isfinite(bar).all() or bar[0] <= 0:
        return None
    count, vanishes = len(bar), bar[-1] < 1e-7  # the cosine's last alpha vanishes by itself
    for formula, zero in itertools.product(FORMULAS, (False, True) if vanishes else (False,)):
        for start, end in (USED if zero else (_ends(bar, formula), *USED)):
            if not 0 < start < end < 1:
                continue
            predicted = alphas_cumprod(formula, count, start, end, zero)
            if np.abs(np.sqrt(predicted) - np.sqrt(np.maximum(bar, 0))).max() <= tolerance:
                fixed = formula == "squaredcos_cap_v2"
                return BetaFit(formula, None if fixed else float(f"{start:.4g}"), None if fixed else float(f"{end:.4g}"), zero)
    return None


# (start, end) of public checkpoints: Stable Diffusion, DDPM, ModelScope and others.
USED = ((0.00085, 0.012), (0.0001, 0.02), (0.0015, 0.0195), (0.00085, 0.014), (0.0015, 0.0155))


def _ends(bar: np.ndarray, formula: str) -> tuple[float, float]:
    """First and last beta, smoothed: float32 alphas give single betas with few digits only."""
    found = np.append(1 - bar[0], 1 - bar[1:] / bar[:-1])
    root = np.sqrt(np.maximum(found, 0)) if formula == "scaled_linear" else found
    slope, first = np.polyfit(np.arange(len(root)), root, 1)
    last = first + slope * (len(root) - 1)
    return (first**2, last**2) if formula == "scaled_linear" else (first, last)
