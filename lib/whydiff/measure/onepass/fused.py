"""The pass over tensors on a CUDA device: one kernel for the deciding figures, compiled by Triton.

Products and short sums are float32, eight to a sum, and go on in float64: an error below 5e-7. Where float32 does not reach (squares
that overflow or vanish, a guess at the mean that is far off), and where there is no Triton, `plain` does it on the same device.
"""

from __future__ import annotations

import functools
import math
import types

import torch
from torch import Tensor

from whydiff.measure.onepass import plain
from whydiff.measure.onepass.totals import Totals

LARGE = 1 << 18  # elements; below, what torch does in a few calls is as fast
PROGRAMS = 2048  # a fixed number: figures do not depend on the size of the device
SIZES = (1e-10, 1e15)  # largest values whose squares float32 holds, and beside which squares that it does not hold are nothing
_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def readable(a: Tensor, b: Tensor, everything: bool) -> bool:
    """Can and should this pair be read here?"""
    return a.is_cuda and a.device == b.device and not everything and a.numel() >= LARGE and suits(a, b) and _kernel() is not None


def suits(a: Tensor, b: Tensor) -> bool:
    """Are these types and strides that the kernel knows, wherever they are?"""
    return all(t.dtype in _TYPES and t.is_contiguous() and not t.is_neg() for t in (a, b))


def totals(a: Tensor, b: Tensor, everything: bool = False) -> Totals:
    """What a comparison of two tensors of one shape needs."""
    code, n = _kernel(), a.numel()
    each = math.ceil(n / PROGRAMS / code.STRETCH) * code.STRETCH
    programs = math.ceil(n / each)
    flat_a, flat_b = a.view(-1), b.view(-1)
    few = min(n, 1024)
    centers = torch.stack([t[:few].float().nan_to_num(0, 0, 0).mean() for t in (flat_a, flat_b)])
    out = torch.empty(programs, len(code.COLUMNS), dtype=torch.float64, device=a.device)
    with torch.cuda.device(a.device) if a.is_cuda else torch.no_grad():
        code.one_pass[(programs,)](flat_a, flat_b, centers, out, n, each, TILE=code.TILE, DEEP=code.DEEP, num_warps=8)
    rows, (center_a, center_b) = out.cpu(), centers.double().tolist()
    column = dict(zip(code.COLUMNS, rows.unbind(1)))
    found = _summed(column, center_a, center_b)
    if found is None:
        return plain.totals(a, b, everything)
    found.worst = _worst(flat_a, flat_b, column, each) if found.count else None
    found.first_bad = _first_bad(flat_a, flat_b, column, each)
    found.equal = found.max_abs == 0 and found.first_bad is None
    return found


@functools.lru_cache(maxsize=1)
def _kernel() -> types.ModuleType | None:
    try:
        from whydiff.measure.onepass import fused_kernel
    except Exception:  # not installed, or unable to work here
        return None
    return fused_kernel


def _summed(column: dict[str, Tensor], center_a: float, center_b: float) -> Totals | None:
    """All programs together; None where float32 did not reach."""
    total = {name: float(values.sum()) for name, values in column.items()}
    largest = {name: float(column[name].max()) for name in ("max_abs", "max_a", "max_b")}
    if not all(math.isfinite(value) for value in total.values()):
        return None
    if any(value and not SIZES[0] < value < SIZES[1] for value in largest.values()):
        return None
    n = max(total["count"], 1.0)
    mean_a, mean_b = total["sa"] / n, total["sb"] / n
    var_a, var_b = total["saa"] - n * mean_a * mean_a, total["sbb"] - n * mean_b * mean_b
    if var_a < 1e-2 * total["saa"] or var_b < 1e-2 * total["sbb"]:
        return None
    mean_a, mean_b, covar = mean_a + center_a, mean_b + center_b, total["sab"] - n * mean_a * mean_b
    return Totals(
        differing=None, count=int(total["count"]), nonfinite_a=int(total["bad_a"]), nonfinite_b=int(total["bad_b"]),
        max_abs=largest["max_abs"], abs_sum=total["abs_sum"], distance=total["distance"], norm_a=var_a + n * mean_a * mean_a,
        norm_b=var_b + n * mean_b * mean_b, dot=covar + n * mean_a * mean_b, var_a=var_a, var_b=var_b, covar=covar)  # fmt: skip


def _worst(a: Tensor, b: Tensor, column: dict[str, Tensor], each: int) -> int:
    start = int(column["max_abs"].argmax()) * each
    apart = (a[start : start + each].double() - b[start : start + each].double()).abs()
    return start + int(torch.where(apart.isfinite(), apart, -1.0).argmax())


def _first_bad(a: Tensor, b: Tensor, column: dict[str, Tensor], each: int) -> int | None:
    for program in (column["bad_a"] + column["bad_b"]).nonzero().flatten().tolist():
        x, y = a[program * each : (program + 1) * each].float(), b[program * each : (program + 1) * each].float()
        bad = ~(x.isfinite() & y.isfinite()) & (x != y) & ~(x.isnan() & y.isnan())
        if bool(bad.any()):
            return program * each + int(bad.to(torch.uint8).argmax())
    return None
