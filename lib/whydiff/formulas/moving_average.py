"""What a tqdm bar shows is a moving average: from step times to the bar, and back.

After its k-th update tqdm shows E_k = L_k / (1 - b^k), where L_k = a x_k + b L_(k-1), L_0 = 0, b = 1 - a and a = 0.3:
tqdm std.py, class EMA, and `format_dict`, which divides one such average of seconds by one of steps. Times are float64
seconds, (N,); `counts` are the steps finished at each update, (N,), all updates one step apart unless given.
"""

from __future__ import annotations

import numpy as np

from whydiff.errors import Trouble

SMOOTHING = 0.3  # tqdm's default


def smoothed(times, smoothing: float = SMOOTHING, counts=None) -> np.ndarray:
    """Seconds per step that the bar shows after each update, (N,), from the seconds that each update took, (N,).

    ``smoothing`` in [0, 1]; 0 is tqdm's mean since the start.
    """
    times = _seconds(times)
    steps = _steps(counts, len(times))
    if _known(smoothing) == 0:
        return np.cumsum(times) / np.cumsum(steps)
    return _sums(times, smoothing) / _sums(steps, smoothing)  # the corrections 1 - b^k cancel


def unsmoothed(shown, smoothing: float = SMOOTHING, counts=None, resolution=0.0) -> tuple[np.ndarray, np.ndarray]:
    """(seconds per step, largest error of each): the steps behind a bar. The inverse of `smoothed`.

    ``resolution`` is how far a shown value may be from the true one, 0.005 for two digits; a number or (N,). The error
    of a step is up to (2 - a) / a times as large, 5.7 times for a = 0.3.
    """
    shown = _seconds(shown)
    steps = _steps(counts, len(shown))
    a = _known(smoothing)
    slack = np.broadcast_to(np.asarray(resolution, dtype=np.float64), shown.shape)
    if a == 0:
        weights, scale = np.cumsum(steps), 1.0
    else:
        weights, scale = _sums(steps, a), a
    keep = 1 - a
    sums, reach = shown * weights, slack * weights
    before, reach_before = np.append(0.0, sums[:-1]), np.append(0.0, reach[:-1])
    return (sums - keep * before) / scale / steps, (reach + keep * reach_before) / scale / steps


def step_behind(shown: float, before, smoothing: float = SMOOTHING) -> float:
    """Seconds of the step after which the bar showed ``shown``, where the steps before it took ``before``, (N,)."""
    before = _seconds(before)
    history = smoothed(before, smoothing) if len(before) else before
    return float(unsmoothed(np.append(history, shown), smoothing)[0][-1])


def _sums(values: np.ndarray, smoothing: float) -> np.ndarray:
    """a x_k + b L_(k-1), (N,)."""
    kept, found = 0.0, []
    for value in values:
        kept = smoothing * value + (1 - smoothing) * kept
        found.append(kept)
    return np.array(found)


def _known(smoothing: float) -> float:
    if not 0 <= smoothing <= 1:
        raise Trouble(f"smoothing is between 0 and 1 (tqdm's default is {SMOOTHING}), got {smoothing:g}.")
    return float(smoothing)


def _steps(counts, length: int) -> np.ndarray:
    """Steps that each update adds."""
    if counts is None:
        return np.ones(length)
    steps = np.diff(np.asarray(counts, dtype=np.float64), prepend=0.0)
    if len(steps) != length or (steps <= 0).any():
        raise Trouble("counts are the steps finished at each update: one for each time, and rising.")
    return steps


def _seconds(times) -> np.ndarray:
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise Trouble("step times are a list of numbers, in seconds.")
    return times
