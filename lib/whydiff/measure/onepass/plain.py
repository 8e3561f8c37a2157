"""The pass in torch, a chunk at a time, in float64: small tensors, complex numbers, and what has no faster way."""

from __future__ import annotations

import torch
from torch import Tensor

from whydiff.measure.onepass.totals import Totals
from whydiff.measure.tensors import UNIT_ROUNDING, chunks

_ULP_TYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def totals(a: Tensor, b: Tensor, everything: bool = True) -> Totals:
    """What a comparison of two tensors of one shape needs. `everything`: not the deciding figures alone."""
    found = _Sums(a, b, everything)
    for start, part_a, part_b in chunks(a, b):
        found.add(start, part_a, part_b)
    return found.totals()


class _Sums:
    def __init__(self, a: Tensor, b: Tensor, everything: bool):
        self.exact = not (a.is_floating_point() or b.is_floating_point() or a.is_complex() or b.is_complex())
        self.complex = a.is_complex() or b.is_complex()
        self.everything = everything
        self.ulp_dtype = ulp_dtype(a, b) if everything else None
        # Sums around the first values seen: the plain formula loses all digits where the mean dwarfs the deviation.
        self.center_a = self.center_b = None
        self.sa = self.sb = self.saa = self.sbb = self.sab = 0.0
        self.found = Totals(max_ulp=None if self.ulp_dtype is None else 0, dot=0j if self.complex else 0.0)

    def add(self, start: int, part_a: Tensor, part_b: Tensor) -> None:
        found = self.found
        x, y = on_device(part_a), on_device(part_b)
        if self.complex:
            x, y = x.to(torch.complex128), y.to(torch.complex128)
        same = (part_a.to(x.device) == part_b.to(y.device)) if self.exact else (x == y)  # int64 beyond 2**53 stays exact
        same |= torch.isnan(x) & torch.isnan(y)
        found.differing += int((~same).sum())
        fx, fy = torch.isfinite(x), torch.isfinite(y)
        finite = fx & fy
        place = None
        if not bool(finite.all()):
            found.nonfinite_a += int((~fx).sum())
            found.nonfinite_b += int((~fy).sum())
            bad = (~finite & ~same).nonzero()
            if found.first_bad is None and len(bad):
                found.first_bad = start + int(bad[0])
            place = finite.nonzero().flatten()
            x, y = x[place], y[place]
        if x.numel() == 0:
            return
        found.count += x.numel()
        delta = (x - y).abs()
        self._largest(start, delta, place)
        found.abs_sum += float(delta.sum())
        found.distance += square(delta)
        found.norm_a += square(x)
        found.norm_b += square(y)
        found.dot += torch.vdot(x, y).item()
        if not self.complex:
            self._moments(x, y)
        if self.everything:
            self._rest(x, y, delta)

    def _largest(self, start: int, delta: Tensor, place: Tensor | None) -> None:
        at = int(delta.argmax())
        if self.found.worst is None or float(delta[at]) > self.found.max_abs:
            self.found.max_abs = float(delta[at])
            self.found.worst = start + (at if place is None else int(place[at]))

    def _moments(self, x: Tensor, y: Tensor) -> None:
        if self.center_a is None:
            self.center_a, self.center_b = float(x.mean()), float(y.mean())
        found = self.found
        found.low, found.high = min(found.low, float(x.min())), max(found.high, float(x.max()))
        x, y = x - self.center_a, y - self.center_b
        self.sa, self.sb = self.sa + float(x.sum()), self.sb + float(y.sum())
        self.saa, self.sbb = self.saa + square(x), self.sbb + square(y)
        self.sab += float(torch.dot(x, y))

    def _rest(self, x: Tensor, y: Tensor, delta: Tensor) -> None:
        size = x.abs()
        relative = delta[size > 0] / size[size > 0]
        if relative.numel():
            self.found.nonzero += relative.numel()
            self.found.rel_sum += float(relative.sum())
            self.found.max_rel = max(self.found.max_rel, float(relative.max()))
        if self.ulp_dtype is not None:
            self.found.max_ulp = max(self.found.max_ulp, max_ulp(x, y, self.ulp_dtype))

    def totals(self) -> Totals:
        found, n = self.found, max(self.found.count, 1)
        found.equal = found.differing == 0
        found.differing = found.differing if self.everything else None
        found.var_a, found.var_b = self.saa - self.sa * self.sa / n, self.sbb - self.sb * self.sb / n
        found.covar = None if self.complex else self.sab - self.sa * self.sb / n
        return found


def on_device(tensor: Tensor) -> Tensor:
    """The same values in float64 (complex128 for complex numbers), on a CUDA device where they are on one, else on the CPU."""
    return tensor.to(tensor.device if tensor.is_cuda else "cpu", torch.complex128 if tensor.is_complex() else torch.float64)


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


def ulp_dtype(a: Tensor, b: Tensor) -> torch.dtype | None:
    """The coarser floating dtype of the two, if both are floating and of 16 bits or more."""
    if a.dtype not in _ULP_TYPES or b.dtype not in _ULP_TYPES:
        return None
    return max(a.dtype, b.dtype, key=UNIT_ROUNDING.__getitem__)


def square(x: Tensor) -> float:
    """‖x‖²."""
    norm = float(torch.linalg.vector_norm(x))
    return norm * norm  # inf where a power would be an error
