"""How much detail a list of noise levels lets through when the network is ideal: blur that no training can remove."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def kept_amplitude(sigmas: Sequence[float], detail: float) -> float:
    """Standard deviation of what Euler's method makes, relative to that of the data; 1 is no blur, 0 is the mean alone.

    Data x0 is Gaussian with standard deviation `detail` > 0, x = (1 - σ) x0 + σ n, and the velocity is the conditional mean
    E[n - x0 | x] = x (σ - (1 - σ) a²) / (σ² + (1 - σ)² a²), so each step is linear. `sigmas` falls from 1 to 0.
    Flow matching: Lipman et al. 2023, arXiv 2210.02747; the conditional mean is that of two joint Gaussians.
    """
    amplitude = 1.0
    for now, after in zip(sigmas, sigmas[1:]):
        variance = now**2 + (1 - now) ** 2 * detail**2
        amplitude *= 1 + (after - now) * (now - (1 - now) * detail**2) / variance
    return abs(amplitude) / detail


def undecided(sigmas: Sequence[float], mode: float = 1.0, samples: int = 20001) -> float:
    """Share of samples that end nearer to the middle than to either of two modes at ±`mode`, with the ideal network.

    The conditional mean of two equal points is mode · tanh(mode (1 - σ) x / σ²). Samples start at the quantiles of the unit
    normal distribution, so that the figure has no randomness.
    """
    from statistics import NormalDist

    normal = NormalDist()
    x = np.array([normal.inv_cdf((i + 0.5) / samples) for i in range(samples)])
    for now, after in zip(sigmas, sigmas[1:]):
        clean = mode * np.tanh(mode * (1 - now) * x / now**2)
        x = x + (after - now) * (x - clean) / now
    return float(np.mean(np.abs(x) < mode / 2))


def as_stored(sigmas: Sequence[float], dtype: str = "bfloat16") -> list[float]:
    """The list as a pipeline of that dtype holds it."""
    import torch

    return torch.tensor(sigmas).to(getattr(torch, dtype)).double().tolist()
