"""How far one tensor is from another, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.measure.mapped import let_go
from whydiff.measure.onepass import fused, machine, plain
from whydiff.measure.onepass.totals import Totals
from whydiff.measure.tensors import as_tensor, chunks, dtype_name, wide


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
        if self.differing is None:
            return f"{head}: {distance}, {largest}, {worst}"
        share = 100 * self.differing / self.elements
        return (f"{head}: {distance}, {largest}, {worst}; "
                f"{self.differing} of {self.elements} elements differ ({share:.3g} %)")

    def _repr_markdown_(self) -> str:
        rows = "\n".join(f"| {name} | {value} |" for name, value in self.to_dict().items() if value is not None)
        return f"{self}\n\n| | |\n|---|---|\n{rows}"


def compare(reference, candidate, *, data_range: float | None = None, deciding: bool = False) -> Comparison:
    """Compare two tensors, arrays, pictures or lists of numbers, ``reference`` being the side taken as right.

    Shapes are never broadcast: a shape is a finding to report, not to repair. Both are read once, some at a time, whatever their
    types and strides; sums are float64 and lie within 1e-6 of exact ones. ``data_range`` is the R of
    PSNR = 20 log10 R - 10 log10 mean|a - b|²; by default max - min of the reference. With ``deciding`` the figures that do not
    decide (``differing``, ``max_rel``, ``mean_rel``, ``psnr`` without a data range, ``max_ulp``) are None, for half of the time.
    Raises Trouble where a value holds no numbers.
    """
    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    about = {"shape_reference": tuple(a.shape), "shape_candidate": tuple(b.shape), "dtype_reference": dtype_name(a),
             "dtype_candidate": dtype_name(b), "elements": a.numel()}
    if a.shape != b.shape:
        return Comparison(**about, **_NOTHING, equal=False, why="shapes differ",
                          nonfinite_reference=_nonfinite(a), nonfinite_candidate=_nonfinite(b))
    found = totals(a, b, everything=not deciding)
    worst = found.first_bad if found.first_bad is not None else found.worst
    index = _unravel(worst, a.shape) if worst is not None else None
    return Comparison(**about, **found.figures(data_range), worst_index=index,
                      worst_reference=a[index].item() if index is not None else None,
                      worst_candidate=b[index].item() if index is not None else None)


def relative_l2(reference: Tensor, candidate: Tensor) -> float:
    """‖reference - candidate‖ / ‖reference‖ in float64, for inner loops: no other figure is computed.

    Never agrees by accident: inf where a value is not finite or the reference is zero and the candidate is not.
    Raises Trouble when the shapes differ.
    """
    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    if a.shape != b.shape:
        raise Trouble(f"shapes differ: reference {list(a.shape)}, candidate {list(b.shape)}.")
    distance, norm = _squares(a, b)
    if distance == 0.0:
        return 0.0
    ratio = math.sqrt(distance / norm) if norm > 0 else math.inf
    return ratio if math.isfinite(ratio) else math.inf


def totals(a: Tensor, b: Tensor, everything: bool = True) -> Totals:
    """One pass over two tensors of one shape, in the fastest way that this machine and these tensors allow."""
    found = _way(a, b, everything).totals(a, b, everything)
    let_go(a, b)
    return found


def _way(a: Tensor, b: Tensor, everything: bool):
    if fused.readable(a, b, everything):
        return fused
    if machine.readable(a, b):
        from whydiff.measure.onepass import compiled

        return compiled
    return plain


def _squares(a: Tensor, b: Tensor) -> tuple[float, float]:
    """‖a - b‖² and ‖a‖²; NaN or inf where a value is not finite."""
    if fused.readable(a, b, everything=False) or machine.readable(a, b):
        found = totals(a, b, everything=False)
        return (math.inf, 1.0) if found.nonfinite_a or found.nonfinite_b else (found.distance, found.norm_a)
    distance = norm = 0.0
    for _, x, y in chunks(a, b):
        x, y = plain.on_device(x), plain.on_device(y)
        distance += plain.square(x - y)
        norm += plain.square(x)
    let_go(a, b)
    return distance, norm


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
