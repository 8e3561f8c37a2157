"""What turns one list of noise levels into another: a shift between two columns, a coarse grid, an entry left out.

Lists are float64 numpy arrays, (N,), descending, as a side recorded them; a final 0 belongs to sigmas.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from whydiff.formulas.schedule import shift_sigmas, unshift_sigmas

LOW = (torch.bfloat16, torch.float16)


def shift_between(base, shifted, tolerance: float = 2e-5) -> float | None:
    """The one shift s with shifted = s base / (1 + (s - 1) base) at every entry of two lists in [0, 1]; None if none has it."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (base, shifted))
    inner = (a > 1e-9) & (a < 1 - 1e-9)
    if a.shape != b.shape or inner.sum() < 2 or not np.allclose(a[~inner], b[~inner], atol=tolerance):
        return None
    if ((b[inner] <= 0) | (b[inner] >= 1)).any():
        return None
    shift = math.exp(float(np.median(_logit(b[inner]) - _logit(a[inner]))))
    return shift if np.abs(shift_sigmas(a, shift) - b).max() <= tolerance else None


def _logit(values: np.ndarray) -> np.ndarray:
    return np.log(values / (1 - values))


def scale_between(sigmas, timesteps) -> float | None:
    """The scale with timesteps = scale · sigmas, integers cut or rounded allowed; None where they are no multiple."""
    s, t = (np.asarray(values, dtype=np.float64) for values in (sigmas, timesteps))
    s = s[: len(t)]
    if len(s) != len(t) or not (s @ s):
        return None
    scale = float(s @ t / (s @ s))
    whole = bool((t == np.round(t)).all())
    if whole and abs(scale - round(scale, -2)) < 5:
        scale = round(scale, -2)  # 1000, as integers cut from it pull the fit below
    return scale if np.abs(t - scale * s).max() <= (1.0 if whole else 2e-5 * abs(scale)) else None


def in_low_precision(sigmas: torch.Tensor, shift: float, dtype: torch.dtype):
    """(words, float32 list) of `sigmas`, (N,), as they come out when the grid before the shift is held in `dtype`."""
    terminal = sigmas.numel() > 1 and float(sigmas[-1]) == 0.0
    levels = (sigmas[:-1] if terminal else sigmas).double()
    base = torch.as_tensor(unshift_sigmas(levels.numpy(), shift))
    even = torch.linspace(float(base[0]), float(base[-1]), len(base), dtype=torch.float64)
    straight = bool((even - base).abs().max() <= 1e-5)

    def ended(values: torch.Tensor) -> torch.Tensor:
        values = values.float()
        return torch.cat([values, values.new_zeros(1)]) if terminal else values

    grids = [base.float().to(dtype)]
    if straight:
        grids.append(torch.linspace(float(base[0]), float(base[-1]), len(base), dtype=dtype))
        step = (torch.tensor(float(base[-1])).to(dtype) - torch.tensor(float(base[0])).to(dtype)) / max(len(base) - 1, 1)
        grids.append(torch.tensor(float(base[0])).to(dtype) + torch.arange(len(base)).to(dtype) * step)
    for grid in grids:
        wide = grid.float()
        yield "the grid before the shift", ended(shift * wide / (1 + (shift - 1) * wide))
        yield "grid and shift", ended(shift * grid / (1 + (shift - 1) * grid))
        yield "grid and shifted sigmas", ended((shift * wide / (1 + (shift - 1) * wide)).to(dtype))
    yield "the sigmas", sigmas.float().to(dtype).float()


def without_one(longer, shorter, tolerance: float = 1e-6) -> int | None:
    """The index at which `longer` has one entry more than `shorter`, both equal apart from it; None where that is not so."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (longer, shorter))
    if len(a) != len(b) + 1:
        return None
    limit = tolerance * max(1.0, float(np.abs(a).max()))
    for index in range(len(a) - 1, -1, -1):
        if np.abs(np.delete(a, index) - b).max(initial=0.0) <= limit:
            return index
    return None


def whole_numbers(exact):
    """(words, integers) of a list of real timesteps: cut, rounded, rounded up."""
    exact = np.asarray(exact, dtype=np.float64)
    yield "cut", np.floor(exact + 1e-6)
    yield "rounded", np.round(exact)
    yield "rounded up", np.ceil(exact - 1e-6)


def spacings(count: int, train: int = 1000, offset: int = 0) -> dict[str, np.ndarray]:
    """Real timesteps of the three spacings of Lin et al. 2023 (arXiv 2305.08891, table 2), descending, before they are whole."""
    return {"linspace": np.linspace(0, train - 1, count)[::-1],
            "trailing": np.arange(train, 0, -train / count)[:count] - 1,
            "leading": (np.arange(count) * (train / count))[::-1] + offset}  # fmt: skip
