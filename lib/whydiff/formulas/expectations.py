"""What sound code does on average: a flow between noise and data, and normalised latents. Limits that ignore this fail sound code.

x_t = sigma n + (1 - sigma) x, v = n - x, with n unit noise and x data of standard deviation s, both without correlation.
"""

from __future__ import annotations

import numpy as np


def flow_std(sigma, data_std: float = 1.0):
    """Standard deviation of x_t: sqrt(sigma² + (1 - sigma)² s²). It falls, has its minimum at s² / (1 + s²), and rises again."""
    sigma = np.asarray(sigma, dtype=float)
    return np.sqrt(sigma**2 + (1 - sigma) ** 2 * data_std**2)


def lowest_std_at(data_std: float = 1.0) -> float:
    """The sigma at which `flow_std` is smallest."""
    return data_std**2 / (1 + data_std**2)


def velocity_cosine(sigma, data_std: float = 1.0):
    """Cosine between v and its best linear prediction from x_t: how visible the sign of a prediction is at this sigma.

    cov(v, x_t) = sigma - (1 - sigma) s²; it is near 0 around the minimum of `flow_std`, where no sign can be read.
    """
    sigma = np.asarray(sigma, dtype=float)
    covariance = sigma - (1 - sigma) * data_std**2
    return covariance / (flow_std(sigma, data_std) * np.sqrt(1 + data_std**2))


def largest_of_normals(n: int) -> float:
    """The value that the largest of n unit normals' magnitudes exceeds half of the time."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(1 - (1 - 0.5 ** (1 / n)) / 2)


def wrong_scale_error(factor: float, mean, std) -> tuple[float, np.ndarray]:
    """Unit-normal latents z sent to a decoder as z / factor where z · std + mean is right: relative L2, and 1 / (factor · std).

    mean, std: (C,). The second value says by how much each channel's spread is off.
    """
    mean, std = np.asarray(mean, dtype=float).ravel(), np.asarray(std, dtype=float).ravel()
    off = (1 / factor - std) ** 2 + mean**2
    return float(np.sqrt(off.sum() / (std**2 + mean**2).sum())), 1 / (factor * std)
