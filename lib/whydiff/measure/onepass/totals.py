"""What one pass over two tensors collects."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Totals:
    """Of a reference a and a candidate b; sums over the elements that are finite on both sides, in float64.

    A pass for the deciding figures alone leaves `differing`, `max_ulp` None and `nonzero`, `low`, `high` as they are here.
    """

    equal: bool = True  # everywhere; NaN equals NaN
    differing: int | None = 0
    count: int = 0  # finite on both sides
    nonfinite_a: int = 0
    nonfinite_b: int = 0
    first_bad: int | None = None  # where a value that is not finite disagrees
    worst: int | None = None  # where |a - b| is largest
    max_abs: float = 0.0
    abs_sum: float = 0.0
    distance: float = 0.0  # sum of |a - b|²
    norm_a: float = 0.0  # sum of |a|²
    norm_b: float = 0.0
    dot: float | complex = 0.0
    var_a: float = 0.0  # sum of squares around the mean
    var_b: float = 0.0
    covar: float | None = 0.0  # None for complex numbers
    nonzero: int = 0  # a that are not 0
    rel_sum: float = 0.0  # of |a - b| / |a|
    max_rel: float = 0.0
    low: float = math.inf  # of a
    high: float = -math.inf
    max_ulp: int | None = None

    def figures(self, data_range: float | None) -> dict:
        """The fields of a Comparison that follow from sums."""
        n, seen = self.count, self.count > 0 or self.equal
        distance, why = self._distance()
        return {
            "differing": self.differing, "equal": self.equal, "relative_l2": distance, "why": why,
            "max_abs": self.max_abs if seen else None, "mean_abs": self.abs_sum / max(n, 1) if seen else None,
            "max_rel": self.max_rel if self.nonzero else None,
            "mean_rel": self.rel_sum / self.nonzero if self.nonzero else None,
            "cosine": self._cosine(), "correlation": self._correlation(), "psnr": self._psnr(data_range),
            "max_ulp": self.max_ulp, "nonfinite_reference": self.nonfinite_a, "nonfinite_candidate": self.nonfinite_b,
        }  # fmt: skip

    def _distance(self) -> tuple[float | None, str | None]:
        bad = [f"{side} has {count} values that are not finite"
               for side, count in (("reference", self.nonfinite_a), ("candidate", self.nonfinite_b)) if count]  # fmt: skip
        if bad:
            return None, "; ".join(bad)
        if self.equal:
            return 0.0, None
        if self.norm_a == 0:
            return None, "the reference is zero"
        ratio = math.sqrt(self.distance / self.norm_a)
        return (ratio, None) if math.isfinite(ratio) else (None, "the sum of squares overflows float64")

    def _cosine(self) -> float | None:
        norms = math.sqrt(self.norm_a) * math.sqrt(self.norm_b)
        return max(-1.0, min(1.0, self.dot.real / norms)) if norms > 0 and math.isfinite(norms) else None

    def _correlation(self) -> float | None:
        # A variance below the rounding of its own sum is that of a constant tensor.
        if self.covar is None or self.count < 2 or not (self.var_a > 1e-15 * self.norm_a and self.var_b > 1e-15 * self.norm_b):
            return None
        found = self.covar / math.sqrt(self.var_a) / math.sqrt(self.var_b)
        return max(-1.0, min(1.0, found)) if math.isfinite(found) else None

    def _psnr(self, data_range: float | None) -> float | None:
        spread = data_range if data_range is not None else self.high - self.low
        if self.count == 0 or not (0 < spread < math.inf):
            return None
        mse = self.distance / self.count
        return 20 * math.log10(spread) - 10 * math.log10(mse) if mse > 0 else math.inf
