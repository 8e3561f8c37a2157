"""Observed sigmas as they were stored: their scale, their final 0, and how coarsely they were rounded."""

from dataclasses import dataclass, field

import numpy as np
import torch

from whydiff.errors import Trouble

UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Observed:
    """``values``: (N,) float64 sigmas without the final 0. ``unit``: relative rounding; ``quantum``: absolute step."""

    values: np.ndarray = field(repr=False)
    terminal: bool  # a final 0 was there
    unit: float
    quantum: float  # 0 where the values do not lie on a decimal grid
    rounding: str | None  # in words, where coarser than float32

    def residual(self, prediction: np.ndarray) -> float:
        """Relative L2 of the prediction, not rounded; its own rounding is part of it."""
        return float(np.linalg.norm(prediction - self.values) / np.linalg.norm(self.values))

    def explained_by(self, prediction: np.ndarray, stretched: bool = False) -> bool:
        """Whether each prediction is within the rounding of its value; `stretched`: it was computed as 1 minus something
        in float32, so that it is rounded as 1 is.

        Four roundings (numerator, denominator, quotient, storage) of the shift formula, each at most ``unit``; float32
        at best, because schedulers store float32 on the way. A decimal may have been rounded or truncated.
        """
        error = prediction - self.values
        slack = 4 * max(self.unit, UNITS[torch.float32]) * np.maximum(np.abs(self.values), np.abs(prediction))
        slack = slack + 4 * UNITS[torch.float32] * stretched
        if not np.isfinite(error).all():
            return False
        if not self.quantum:
            return bool((np.abs(error) <= slack).all())
        rounded = np.abs(error) <= self.quantum / 2 + slack
        truncated = (error >= -slack) & (error <= self.quantum + slack)
        return bool(rounded.all() or truncated.all())


def observe(sigmas) -> Observed:
    """Read sigmas in [0, 1], k-diffusion sigmas up to 200, or timesteps up to 1000 (which are divided by 1000)."""
    try:
        # torch would read Python floats as float32
        tensor = sigmas if isinstance(sigmas, torch.Tensor) else torch.from_numpy(np.array(sigmas, dtype=np.float64))
        tensor = tensor.detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Trouble(f"observed sigmas must be a list of numbers: {error}") from None
    values = tensor.to(torch.float64).numpy()
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or values.max() <= 0:
        raise Trouble(f"observed sigmas must be one list of finite numbers, not all 0; got shape {list(values.shape)}.")
    unit = UNITS.get(tensor.dtype, 0.0)
    scale = 1000.0 if values.max() > 200 else 1.0
    fine = unit <= UNITS[torch.float32] and not _simple(values)  # a coarser dtype hides decimals
    quantum, words = _decimals(values, scale, unit) if len(values) > 2 and (fine or scale > 1) else (0.0, None)
    for dtype in (torch.bfloat16, torch.float16):
        coarse = torch.equal(tensor.to(dtype).double(), tensor.double())
        # Halves and quarters fit every grid; sixteen of them can hardly all be meant.
        if not quantum and coarse and unit < UNITS[dtype] and len(values) > 2 and not _simple(values):
            unit = UNITS[dtype]
            break
    if unit > UNITS[torch.float32]:
        words = "rounded to " + next(str(d).removeprefix("torch.") for d, u in UNITS.items() if u == unit)
    values = values / scale
    terminal = len(values) > 1 and values[-1] == 0
    return Observed(values[:-1] if terminal else values, bool(terminal), unit, quantum / scale, words)


def _decimals(values: np.ndarray, scale: float, unit: float) -> tuple[float, str | None]:
    """The decimal grid the values lie on, if it is coarser than float32 would need."""
    for digits in range(0 if scale > 1 else 3, MOST_DECIMALS + 1 - (3 if scale > 1 else 0)):
        if np.allclose(values, np.round(values, digits), rtol=0, atol=max(1e-9 * scale, unit * values.max())):
            return 10.0**-digits, "integer timesteps" if scale > 1 and digits == 0 else f"rounded to {digits} decimals"
    return 0.0, None


def _simple(values: np.ndarray) -> bool:
    """All multiples of 1/64: exact in every dtype, so no sign of rounding."""
    return bool((values * 64 == np.round(values * 64)).all())
