"""How far one tensor is from another, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.measure.tensors import UNIT_ROUNDING, as_tensor, chunks, dtype_name, wide


@dataclass(frozen=True)
class Comparison:
    """The distance of a candidate from a reference; all figures are over the elements that are finite on both sides.

    Figures that have no value are None: all of them where shapes differ, ``relative_l2`` where values are not finite
    or the reference is zero (``why`` says which), ``cosine`` and ``correlation`` where a side is zero or constant.
    """

    shape_reference: tuple[int, ...]
    shape_candidate: tuple[int, ...]
    dtype_reference: str
    dtype_candidate: str
    elements: int  # of the reference
    differing: int | None  # elements that are not equal
    equal: bool  # same shape and values; -0 equals 0, NaN equals NaN at the same place; dtypes may differ
    max_abs: float | None
    mean_abs: float | None
    max_rel: float | None  # |a - b| / |a| where a is not 0
    mean_rel: float | None
    relative_l2: float | None  # ‖a - b‖ / ‖a‖, the contract's `difference`
    why: str | None  # why relative_l2 is None
    cosine: float | None  # [-1, 1]
    correlation: float | None  # Pearson, [-1, 1]; None for complex numbers
    psnr: float | None  # dB, inf where equal
    max_ulp: int | None  # in the coarser of the two floating dtypes; None for integers and complex numbers
    nonfinite_reference: int
    nonfinite_candidate: int
    worst_index: tuple[int, ...] | None  # where a non-finite value disagrees, else where |a - b| is largest
    worst_reference: float | complex | None
    worst_candidate: float | complex | None

    @property
    def difference(self) -> float | None:
        """The contract's name for ``relative_l2``."""
        return self.relative_l2

    def to_dict(self, digits: int | None = 3) -> dict:
        """JSON-safe fields; floats rounded to ``digits`` significant digits (None: not rounded), non-finite as None."""
        return {f.name: _json_safe(getattr(self, f.name), digits) for f in fields(self)}

    def __str__(self) -> str:
        if self.shape_reference != self.shape_candidate:
            return (f"shapes differ: reference {list(self.shape_reference)} {self.dtype_reference}, "
                    f"candidate {list(self.shape_candidate)} {self.dtype_candidate}")
        dtypes = self.dtype_reference
        if self.dtype_reference != self.dtype_candidate:
            dtypes += f" against {self.dtype_candidate}"
        head = f"{list(self.shape_reference)} {dtypes}"
        if self.equal:
            return f"{head}: equal, all {self.elements} elements"
        distance = f"relative L2 {self.relative_l2:.3g}" if self.relative_l2 is not None else f"no distance ({self.why})"
        ulp = f" ({self.max_ulp} ulp)" if self.max_ulp is not None and self.max_ulp < 1000 else ""
        largest = f"max abs {self.max_abs:.3g}{ulp}" if self.max_abs is not None else "nothing finite"
        worst = (f"worst at {list(self.worst_index)}: reference {self.worst_reference:.6g}, "
                 f"candidate {self.worst_candidate:.6g}")
        share = 100 * self.differing / self.elements
        return (f"{head}: {distance}, {largest}, {worst}; "
                f"{self.differing} of {self.elements} elements differ ({share:.3g} %)")

    def _repr_markdown_(self) -> str:
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.to_dict().items() if value is not None)
        return f"{self}\n\n| | |\n|---|---|\n{rows}"


def compare(reference, candidate, *, data_range: float | None = None) -> Comparison:
    """Compare two tensors, arrays, pictures or lists of numbers, ``reference`` being the side taken as right.

    Shapes are never broadcast: a shape is a finding to report, not to repair. Sums are float64, taken over chunks of a
    million elements, so that large tensors are not copied whole. ``data_range`` is the R of
    PSNR = 20 log10 R - 10 log10 mean|a - b|²; by default max - min of the reference. Raises Trouble where a value
    holds no numbers.
    """
    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    about = {"shape_reference": tuple(a.shape), "shape_candidate": tuple(b.shape), "dtype_reference": dtype_name(a),
             "dtype_candidate": dtype_name(b), "elements": a.numel()}
    if a.shape != b.shape:
        return Comparison(**about, **_NOTHING, equal=False, why="shapes differ",
                          nonfinite_reference=_nonfinite(a), nonfinite_candidate=_nonfinite(b))
    sums = _Sums(a, b)
    for start, part_a, part_b in chunks(a, b):
        sums.add(start, part_a, part_b)
    return Comparison(**about, **sums.figures(a, b, data_range))


def relative_l2(reference: Tensor, candidate: Tensor) -> float:
    """‖reference - candidate‖ / ‖reference‖ in float64, for inner loops: no other figure is computed.

    Never agrees by accident: inf where a value is not finite or the reference is zero and the candidate is not.
    Raises Trouble when the shapes differ.
    """
    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    if a.shape != b.shape:
        raise Trouble(f"shapes differ: reference {list(a.shape)}, candidate {list(b.shape)}.")
    distance = norm = 0.0
    for _, x, y in chunks(a, b):
        x, y = wide(x), wide(y)
        distance += _square(x - y)
        norm += _square(x)
    if distance == 0.0:
        return 0.0
    ratio = math.sqrt(distance / norm) if norm > 0 else math.inf
    return ratio if math.isfinite(ratio) else math.inf


class _Sums:
    """What one pass over both tensors collects."""

    def __init__(self, a: Tensor, b: Tensor):
        self.exact = not (a.is_floating_point() or b.is_floating_point() or a.is_complex() or b.is_complex())
        self.complex = a.is_complex() or b.is_complex()
        self.ulp_dtype = _ulp_dtype(a, b)
        self.differing = self.count = self.nonzero = self.nonfinite_a = self.nonfinite_b = 0
        self.distance = self.norm_a = self.norm_b = self.abs_sum = self.rel_sum = 0.0
        self.dot = 0j if self.complex else 0.0
        self.max_abs, self.max_rel, self.max_ulp = -1.0, -1.0, 0
        self.worst = self.first_bad = None
        self.low, self.high = math.inf, -math.inf
        # Sums around the first values seen: the plain formula loses all digits where the mean dwarfs the deviation.
        self.center_a = self.center_b = None
        self.sa = self.sb = self.saa = self.sbb = self.sab = 0.0

    def add(self, start: int, part_a: Tensor, part_b: Tensor) -> None:
        x, y = wide(part_a), wide(part_b)
        if self.complex:
            x, y = x.to(torch.complex128), y.to(torch.complex128)
        same = (part_a.to("cpu") == part_b.to("cpu")) if self.exact else (x == y)  # int64 beyond 2**53 stays exact
        same |= torch.isnan(x) & torch.isnan(y)
        self.differing += int((~same).sum())
        fx, fy = torch.isfinite(x), torch.isfinite(y)
        finite = fx & fy
        if not bool(finite.all()):
            self.nonfinite_a += int((~fx).sum())
            self.nonfinite_b += int((~fy).sum())
            bad = (~finite & ~same).nonzero()
            if self.first_bad is None and len(bad):
                self.first_bad = start + int(bad[0])
            place = finite.nonzero().flatten()
            x, y = x[place], y[place]
        else:
            place = None
        if x.numel() == 0:
            return
        self.count += x.numel()
        delta = (x - y).abs()
        self._largest(start, delta, place)
        self.abs_sum += float(delta.sum())
        self.distance += _square(delta)
        size = x.abs()
        rel = delta[size > 0] / size[size > 0]
        if rel.numel():
            self.nonzero += rel.numel()
            self.rel_sum += float(rel.sum())
            self.max_rel = max(self.max_rel, float(rel.max()))
        self.norm_a += _square(x)
        self.norm_b += _square(y)
        self.dot += torch.vdot(x, y).item()
        if not self.complex:
            self._moments(x, y)
        if self.ulp_dtype is not None:
            self.max_ulp = max(self.max_ulp, max_ulp(x, y, self.ulp_dtype))

    def _largest(self, start: int, delta: Tensor, place: Tensor | None) -> None:
        at = int(delta.argmax())
        if float(delta[at]) > self.max_abs:
            self.max_abs = float(delta[at])
            self.worst = start + (at if place is None else int(place[at]))

    def _moments(self, x: Tensor, y: Tensor) -> None:
        if self.center_a is None:
            self.center_a, self.center_b = float(x.mean()), float(y.mean())
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        x, y = x - self.center_a, y - self.center_b
        self.sa, self.sb = self.sa + float(x.sum()), self.sb + float(y.sum())
        self.saa, self.sbb = self.saa + _square(x), self.sbb + _square(y)
        self.sab += float(torch.dot(x, y))

    def figures(self, a: Tensor, b: Tensor, data_range: float | None) -> dict:
        n = self.count
        equal = self.differing == 0
        distance, why = self._distance(equal)
        worst = self.first_bad if self.first_bad is not None else self.worst
        index = _unravel(worst, a.shape) if worst is not None else None
        return {
            "differing": self.differing, "equal": equal, "relative_l2": distance, "why": why,
            "max_abs": self.max_abs if n else None if self.differing else 0.0,
            "mean_abs": self.abs_sum / n if n else None if self.differing else 0.0,
            "max_rel": self.max_rel if self.nonzero else None,
            "mean_rel": self.rel_sum / self.nonzero if self.nonzero else None,
            "cosine": self._cosine(), "correlation": self._correlation(), "psnr": self._psnr(data_range),
            "max_ulp": self.max_ulp if self.ulp_dtype is not None else None,
            "nonfinite_reference": self.nonfinite_a, "nonfinite_candidate": self.nonfinite_b,
            "worst_index": index,
            "worst_reference": a[index].item() if index is not None else None,
            "worst_candidate": b[index].item() if index is not None else None,
        }

    def _distance(self, equal: bool) -> tuple[float | None, str | None]:
        bad = [f"{side} has {count} values that are not finite"
               for side, count in (("reference", self.nonfinite_a), ("candidate", self.nonfinite_b)) if count]
        if bad:
            return None, "; ".join(bad)
        if equal:
            return 0.0, None
        if self.norm_a == 0:
            return None, "the reference is zero"
        ratio = math.sqrt(self.distance / self.norm_a)
        return (ratio, None) if math.isfinite(ratio) else (None, "the sum of squares overflows float64")

    def _cosine(self) -> float | None:
        norms = math.sqrt(self.norm_a) * math.sqrt(self.norm_b)
        return max(-1.0, min(1.0, self.dot.real / norms)) if norms > 0 and math.isfinite(norms) else None

    def _correlation(self) -> float | None:
        if self.complex or self.count < 2:
            return None
        n = self.count
        va, vb = self.saa - self.sa**2 / n, self.sbb - self.sb**2 / n
        # A variance below the rounding of its own sum is that of a constant tensor.
        if not (va > 1e-15 * self.norm_a and vb > 1e-15 * self.norm_b):
            return None
        return max(-1.0, min(1.0, (self.sab - self.sa * self.sb / n) / math.sqrt(va) / math.sqrt(vb)))

    def _psnr(self, data_range: float | None) -> float | None:
        spread = data_range if data_range is not None else self.high - self.low
        if self.count == 0 or not (0 < spread < math.inf):
            return None
        mse = self.distance / self.count
        return 20 * math.log10(spread) - 10 * math.log10(mse) if mse > 0 else math.inf


def max_ulp(x: Tensor, y: Tensor, dtype: torch.dtype) -> int:
    """How many numbers of ``dtype`` lie between the finite x and y at most: 0 equal, 1 neighbours. -0 counts as 0."""
    x, y = x.to(dtype), y.to(dtype)
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    # Magnitude bits of IEEE numbers are ordered as integers; the sign is put back afterwards.
    mx, my = (t.abs().view(bits).to(torch.int64) for t in (x, y))
    across = torch.signbit(x) != torch.signbit(y)
    apart = (mx - my).abs()
    if bool(across.any()):
        limit = 2**62  # two float64 magnitudes could overflow int64
        apart = torch.where(across, mx.clamp(max=limit - 1) + my.clamp(max=limit - 1), apart)
    return int(apart.max()) if apart.numel() else 0


def _ulp_dtype(a: Tensor, b: Tensor) -> torch.dtype | None:
    """The coarser floating dtype of the two, if both are floating and of 16 bits or more."""
    known = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    if a.dtype not in known or b.dtype not in known:
        return None
    return max(a.dtype, b.dtype, key=UNIT_ROUNDING.__getitem__)


def _square(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x)) ** 2


def _nonfinite(a: Tensor) -> int:
    return sum(int((~torch.isfinite(wide(part))).sum()) for _, part in chunks(a))


def _unravel(flat: int, shape) -> tuple[int, ...]:
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), tuple(shape)))


def _json_safe(value, digits: int | None):
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None or value == 0 else float(f"{value:.{digits}g}")
    return value


_NOTHING = dict.fromkeys(("differing", "max_abs", "mean_abs", "max_rel", "mean_rel", "relative_l2", "cosine",
                          "correlation", "psnr", "max_ulp", "worst_index", "worst_reference", "worst_candidate"))
