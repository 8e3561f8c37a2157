"""Which formula combined the conditional and the unconditional prediction, and with which scale?

plain      u + s (c - u)                       Ho and Salimans 2022, arXiv 2207.12598
zero_star  a u + s (c - a u), a = <c, u> / |u|²  Fan et al. 2025, arXiv 2503.18886 (CFG-Zero*), a for each sample
rescaled   g (phi std(c) / std(g) + 1 - phi)   Lin et al. 2023, arXiv 2305.08891, section 3.4; g is the plain result
norm       g |c| / |g|                         Qwen-Image, norms over each token, each position's channels or each sample
projected  c + (s - 1) (d⊥ + eta d∥)            Sadat et al. 2024, arXiv 2410.02416 (APG): d = c - u, split along c

c, u and p (what was made of them) have one shape, batch first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

OVER = {"token": -1, "channel": 1}  # the axis a norm runs over, where it is not the whole sample
# (c - u) rounds once, s (...) once, u + ... once, a factor twice; each errs by eps/2 of its terms. Eight is twice that.
ROUNDINGS = 8


@dataclasses.dataclass(frozen=True)
class GuidanceFormula:
    """`scales` hold one number for each step looked at; `zero_steps` first steps are set to zero (zero-init).

    `over`: what the factor or the norm is taken over ("sample", "batch", "token", "channel"), where it matters.
    """

    kind: str
    scales: tuple[float, ...]
    zero_steps: int = 0
    over: str = ""
    phi: float | None = None  # of `rescaled`; eta of `projected`
    sign: float = 1.0  # -1: the result is negated, as pipelines do whose network predicts image minus noise
    residual: float = 0.0  # relative L2 of what is left, over all steps

    @property
    def scale(self) -> float:
        """The scale, where it is one constant; else its mean."""
        return sum(self.scales) / len(self.scales)

    @property
    def constant(self) -> bool:
        return max(self.scales) == min(self.scales)

    @property
    def words(self) -> str:
        scale = f"{self.scale:.6g}" if self.constant else "from " + " to ".join(f"{s:.4g}" for s in (self.scales[0], self.scales[-1]))
        text = {"plain": f"uncond + s (cond - uncond), s = {scale}",
                "zero_star": f"CFG-Zero* (factor of each {self.over}), s = {scale}",
                "rescaled": f"uncond + s (cond - uncond), s = {scale}, rescaled with phi = {self.phi or 0:.4g}",
                "norm": f"uncond + s (cond - uncond), s = {scale}, with cond's norm for each {self.over}",
                "projected": f"cond + (s - 1) (orthogonal + {self.phi or 0:.4g} parallel part), s = {scale}"}[self.kind]  # fmt: skip
        text = text if self.sign > 0 else f"minus ({text})"
        return text + (f", the first {self.zero_steps} step(s) zero" if self.zero_steps else "")


def combine(kind: str, cond: Tensor, uncond: Tensor, scale: float, over: str = "sample", phi: float | None = None) -> Tensor:
    """What a formula makes of two predictions of one shape (B, ...)."""
    if kind == "zero_star":
        a = _factor(cond, uncond, over)
        return a * uncond + scale * (cond - a * uncond)
    if kind == "projected":
        d = cond - uncond
        along = _dot(d, cond, "sample") / _dot(cond, cond, "sample") * cond
        return cond + (scale - 1) * (d - along + (phi or 0.0) * along)
    plain = uncond + scale * (cond - uncond)
    if kind == "norm":
        return plain * (_dot(cond, cond, over) / _dot(plain, plain, over)).sqrt()
    if kind == "rescaled":
        share = 1.0 if phi is None else phi
        return plain * (share * _std_ratio(cond, plain) + 1 - share)
    return plain


def fit_guidance(steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> GuidanceFormula | None:
    """The plainest formula that makes every step's p of its (c, u), to rounding; None where none does."""
    steps = [tuple(t.detach().to("cpu") for t in step) for step in steps]
    zeros = 0
    while zeros < len(steps) and not bool(steps[zeros][2].any()) and bool(steps[zeros][0].any()):
        zeros += 1
    eps = max((torch.finfo(p.dtype).eps for _, _, p in steps if p.is_floating_point()), default=0.0)
    rest = [tuple(t.double() for t in step) for step in steps[zeros:]]
    if not rest or not all(bool(t.isfinite().all()) for step in rest for t in step):
        return None
    # Two numbers fit any one sample of one step, so formulas with two need more than one.
    several = sum(c.shape[0] for c, _, _ in rest) > 1
    for sign in (1.0, -1.0):
        signed = [(c, u, sign * p) for c, u, p in rest]
        for fit in (_plain, _zero_star, *((_projected, _rescaled) if several else ()), _norm):
            found = fit(signed, eps)
            if found is not None:
                return dataclasses.replace(found, zero_steps=zeros, sign=sign)
    return None


def _judge(steps, eps: float, formula: GuidanceFormula) -> GuidanceFormula | None:
    """The formula with its residual, or None where a step is not what it says."""
    left = total = 0.0
    for (c, u, p), s in zip(steps, formula.scales, strict=True):
        made = combine(formula.kind, c, u, s, formula.over or "sample", formula.phi)
        rest, size = float((p - made).norm()), float(p.norm())
        terms = float(c.norm() + u.norm()) * (1 + abs(s))
        if not rest <= ROUNDINGS * eps * max(terms, size):
            return None
        left, total = left + rest**2, total + size**2
    return dataclasses.replace(formula, residual=math.sqrt(left / total) if total else 0.0)


def _settled(steps, eps: float, kind: str, scales: list[float], curve: bool = False, **more) -> GuidanceFormula | None:
    """One scale for all steps where that does, a telling round one before the fitted one; else, with `curve`, one for each."""
    if not all(math.isfinite(s) for s in scales):
        return None
    middle = sorted(scales)[len(scales) // 2]
    for guess in dict.fromkeys((*(float(f"{middle:.{d}g}") for d in (2, 3, 4, 5)), middle, sum(scales) / len(scales))):
        found = _judge(steps, eps, GuidanceFormula(kind, (guess,) * len(steps), **more))
        if found is not None:
            return found
    return _judge(steps, eps, GuidanceFormula(kind, tuple(scales), **more)) if curve else None


def _plain(steps, eps):
    return _settled(steps, eps, "plain", [_ratio(c - u, p - u) for c, u, p in steps], curve=True)


def _zero_star(steps, eps):
    for over in ("sample", "batch"):
        scales = []
        for c, u, p in steps:
            base = _factor(c, u, over) * u
            scales.append(_ratio(c - base, p - base))
        found = _settled(steps, eps, "zero_star", scales, curve=True, over=over)
        if found is not None:
            return found
    return None


def _rescaled(steps, eps):
    scales, factors = [], []
    for c, u, p in steps:
        s, k = _in_span(c, u, p, "sample")
        scales.append(s)
        ratio = _std_ratio(c, u + s * (c - u))
        factors += ((k - 1) / (ratio - 1)).flatten().tolist()
    phi = sorted(factors)[len(factors) // 2]
    for guess in dict.fromkeys((float(f"{phi:.2g}"), float(f"{phi:.3g}"), phi)):
        if 0 < guess <= 1 + 1e-3:
            found = _settled(steps, eps, "rescaled", scales, phi=guess)
            if found is not None:
                return found
    return None


def _norm(steps, eps):
    for over in ("sample", "token", "channel"):
        axis = OVER.get(over)
        shape = steps[0][0].shape
        if axis is not None and (len(shape) < 3 or shape[axis] < 3 or (over == "channel" and len(shape) < 4)):
            continue
        found = _settled(steps, eps, "norm", [_in_span(c, u, p, over)[0] for c, u, p in steps], curve=True, over=over)
        if found is not None:
            return found
    return None


def _projected(steps, eps):
    scales, etas = [], []
    for c, u, p in steps:
        cc, cu, uu, cp, up = (_dot(a, b, "sample") for a, b in ((c, c), (c, u), (u, u), (c, p), (u, p)))
        below = cc * uu - cu * cu
        a, b = (cp * uu - up * cu) / below, (up * cc - cp * cu) / below
        s = 1 - b
        along = 1 - cu / cc  # <c - u, c> / |c|²
        scales.append(float(s.flatten().median()))
        etas += (1 - (s - a) / ((s - 1) * along)).flatten().tolist()
    eta = sorted(etas)[len(etas) // 2]
    for guess in dict.fromkeys((round(eta, 2), eta)):
        if math.isfinite(guess) and abs(guess) < 1:  # eta 1 is the plain formula
            found = _settled(steps, eps, "projected", scales, phi=guess)
            if found is not None:
                return found
    return None


def _in_span(c: Tensor, u: Tensor, p: Tensor, over: str) -> tuple[float, Tensor]:
    """p = k (u + s (c - u)): the median s over all pieces that `over` names, and k for each."""
    d = c - u
    uu, ud, dd, up, dp = (_dot(a, b, over) for a, b in ((u, u), (u, d), (d, d), (u, p), (d, p)))
    below = uu * dd - ud * ud
    k, ks = (up * dd - dp * ud) / below, (dp * uu - up * ud) / below
    s = (ks / k).flatten()
    s = s[s.isfinite()]
    return (float(s.median()) if s.numel() else math.nan), k


def _dot(a: Tensor, b: Tensor, over: str) -> Tensor:
    """Inner products over the named piece, in a shape that multiplies with the tensors."""
    if over == "batch":
        return (a * b).sum()
    if over in OVER:
        return (a * b).sum(OVER[over], keepdim=True)
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def _factor(cond: Tensor, uncond: Tensor, over: str) -> Tensor:
    return _dot(cond, uncond, over) / (_dot(uncond, uncond, over) + 1e-8)


def _std_ratio(cond: Tensor, plain: Tensor) -> Tensor:
    axes = list(range(1, cond.ndim))
    return cond.std(axes, keepdim=True) / plain.std(axes, keepdim=True)


def _ratio(x: Tensor, y: Tensor) -> float:
    """The factor that takes x nearest to y; nan where x is zero."""
    below = float((x * x).sum())
    return float((x * y).sum()) / below if below else math.nan
