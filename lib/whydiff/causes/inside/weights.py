"""What happened to a stored tensor? The reference's and the candidate's are compared; each answer is one small test."""

from __future__ import annotations

import dataclasses
import math

import torch

from whydiff.measure.compare import relative_l2

CHUNKS = (2, 3, 4, 6, 9, 12)  # parts that fused projections consist of
SPARSE = 0.3  # a damaged file differs in some bytes; a cast, a scale or another adapter changes nearly all values
UNRELATED = 0.2  # correlation below which two tensors of 64 values or more share nothing (chance alone: 1/sqrt(n))


@dataclasses.dataclass(frozen=True)
class Change:
    """How candidate follows from reference: a word for the kind, its numbers, and the side it happened to, if that can be told."""

    kind: str
    words: str
    numbers: dict = dataclasses.field(default_factory=dict)
    side: str = "candidate"


def change(reference: torch.Tensor, candidate: torch.Tensor) -> Change:
    """The first test that fits, or kind "other"."""
    for test in (imaginary_lost, phases_rounded, chunks_exchanged, rounded, constant, damaged, kronecker, halves_opposed, low_rank,
                 rounding_sized, unrelated):  # fmt: skip
        found = test(reference, candidate)
        if found is None and test in ONE_WAY:
            found = test(candidate, reference)
            if found is not None:
                found = dataclasses.replace(found, side="reference")
        if found is not None:
            return found
    return Change("other", "other values")


def imaginary_lost(a, b) -> Change | None:
    """A complex table cast to a real type keeps its real part only."""
    if not a.is_complex() or not a.imag.any():
        return None
    real = b.real if b.is_complex() else b
    if real.shape == a.shape and (not b.is_complex() or not b.imag.any()) and relative_l2(a.real, real) < 1e-2:
        return Change("imaginary_lost", "without its imaginary part")
    return None


def phases_rounded(a, b) -> Change | None:
    """Sines, cosines or complex units of positions (rows) whose phases err by no more than 16-bit rounding of the phase.

    The frequencies are the steps from row to row; rows count up from position 0, or (complex tables only) up to position -1.
    """
    if a.shape != b.shape or a.dim() != 2 or len(a) < 4 or torch.equal(a, b) or not (a.is_complex() or a.is_floating_point()):
        return None
    if (a.abs() > 1 + 1e-4).any() or (b.abs() > 1 + 1e-4).any():
        return None
    wide = a.to(torch.complex128 if a.is_complex() else torch.float64)
    ones = bool((wide[0] == 1).all())
    frequency = (wide[1] / wide[0]).angle() if a.is_complex() else wide[1].arccos() if ones else wide[1].arcsin()
    positions = torch.arange(len(a), dtype=torch.float64)
    positions = len(a) - positions if a.is_complex() and not ones else positions
    error = (wide - b.to(wide.dtype)).abs()
    phase = positions[:, None] * frequency.abs()
    for dtype in (torch.float16, torch.bfloat16):
        # The frequency may be rounded as well as the product, so one ulp in all; tables themselves hold float32.
        if (error <= torch.finfo(dtype).eps * phase + 1e-6).all() and error.max() > 1e-5:
            return Change("rounded", f"made of phases rounded to {str(dtype).removeprefix('torch.')}", {"dtype": str(dtype).removeprefix("torch.")})
    return None


def chunks_exchanged(a, b) -> Change | None:
    if a.shape != b.shape or a.dim() == 0 or a.is_complex():
        return None
    for count in CHUNKS:
        if a.shape[0] % count:
            continue
        x, y = a.chunk(count), b.chunk(count)
        order = [next((i for i, part in enumerate(x) if torch.equal(part, other)), None) for other in y]
        if None not in order and order != sorted(order) and len(set(order)) == count:
            return Change("chunks_exchanged", f"with its {count} parts in the order {order}", {"parts": count, "order": order})
    return None


def rounded(a, b) -> Change | None:
    if a.shape != b.shape or not a.is_floating_point() or not b.is_floating_point():
        return None
    for dtype in (torch.bfloat16, torch.float16):
        if a.dtype != dtype and torch.equal(a.to(dtype).to(torch.float64), b.to(torch.float64)):
            word = str(dtype).removeprefix("torch.")
            return Change("rounded", f"rounded to {word}", {"dtype": word, "stored": str(b.dtype).removeprefix("torch.")})
    return None


def constant(a, b) -> Change | None:
    """All zeros or all ones: what a layer starts from when nothing is loaded into it."""
    if a.shape == b.shape and not b.is_complex() and b.numel() > 1 and (not b.any() or bool((b == 1).all())) and not torch.equal(a, b):
        return Change("constant", f"all {'zeros' if not b.any() else 'ones'}, as a layer starts")
    return None


def damaged(a, b) -> Change | None:
    """Some values replaced by others that have nothing to do with them, or by what is no weight at all."""
    if a.shape != b.shape or a.dtype != b.dtype or not a.is_floating_point() or a.numel() < 16:
        return None
    wrong = ~((a == b) | (a.isnan() & b.isnan()))
    share = wrong.double().mean().item()
    x, y = a[wrong].double(), b[wrong].double()
    wild = bool((~y.isfinite()).any()) or (y.abs().max() > 1e3 * a.abs().max().double().clamp_min(1e-6)).item()
    flipped = _same_bits_flipped(a[wrong], b[wrong])
    if not (wild or flipped or share <= SPARSE) or not share:
        return None
    if not (wild or flipped):
        if len(x) >= 3:
            ratio = y / x
            if not ratio.isfinite().all() or ratio.std() < 0.05 * ratio.abs().mean() or _lines(wrong):
                return None
            if ((y - x).abs() <= 0.02 * x.abs()).all():  # small changes everywhere: somebody's arithmetic, no wrong bytes
                return None
    return Change("damaged", f"with {int(wrong.sum())} of {a.numel()} values replaced", {"wrong": int(wrong.sum()), "of": a.numel()})


def _lines(wrong: torch.Tensor) -> bool:
    """Do the wrong values fill whole rows or columns? Then an axis was touched, and not bytes."""
    if wrong.dim() < 2:
        return False
    flat = wrong.flatten(1)
    rows, columns = flat.any(1), flat.any(0)
    return bool(flat[rows].all() or flat[:, columns].all())


def _same_bits_flipped(x: torch.Tensor, y: torch.Tensor) -> bool:
    if x.numel() < 4:
        return False
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    bits = x.contiguous().view(whole) ^ y.contiguous().view(whole)
    return len(bits.unique()) <= max(1, min(4, x.numel() // 4))


def low_rank(a, b) -> Change | None:
    difference = _matrix(a, b)
    if difference is None:
        return None
    rank = _rank(difference)
    touched = min(int(difference.any(1).sum()), int(difference.any(0).sum()))  # rows that are scaled, say, have the rank of their number
    if rank is None or 2 * rank >= touched or not _dense(difference) or torch.equal(a.flatten().sort().values, b.flatten().sort().values):
        return None
    return Change("low_rank", f"plus a matrix of rank {rank}", {"rank": rank})


def halves_opposed(a, b) -> Change | None:
    """A low-rank difference whose input halves are each other's negative: the lower factor's halves were exchanged, too."""
    difference = _matrix(a, b)
    if difference is None or difference.shape[1] % 2:
        return None
    left, right = difference.chunk(2, dim=1)
    if (left + right).norm() > 1e-4 * difference.norm() or low_rank(a, b) is None:
        return None
    return Change("halves_opposed", "plus a low-rank matrix whose input halves are each other's negative", {"rank": _rank(difference)})


def kronecker(a, b) -> Change | None:
    """a − b is a Kronecker product w1 ⊗ w2: rearranged, it has rank 1 (Van Loan and Pitsianis 1993)."""
    difference = _matrix(a, b)
    if difference is None or not _dense(difference):
        return None
    rows, columns = difference.shape
    for p in (n for n in range(2, min(rows, 65)) if rows % n == 0 and rows // n > 1):
        for q in (n for n in range(2, min(columns, 65)) if columns % n == 0 and columns // n > 1):
            blocks = difference.reshape(p, rows // p, q, columns // q).permute(0, 2, 1, 3).reshape(p * q, -1)
            if min(blocks.shape) < 4:
                continue
            # Rank 1 without a decomposition: every row is a multiple of the largest one.
            lead = blocks[blocks.norm(dim=1).argmax()]
            rest = blocks - (blocks @ lead / (lead @ lead))[:, None] * lead
            if rest.norm() <= 1e-4 * difference.norm() and not _rank_one(difference):
                return Change("kronecker", f"plus a Kronecker product of a {p} x {q} and a {rows // p} x {columns // q} matrix", {"w1": [p, q]})
    return None


def rounding_sized(a, b) -> Change | None:
    """Nearly all values off by no more than rounding to 16 bits, although neither tensor is the other's rounding."""
    if a.shape != b.shape or not a.is_floating_point() or a.numel() < 64:
        return None
    gap = (a.double() - b.double()).abs()
    if 0 < gap.max() <= 2 * torch.finfo(torch.bfloat16).eps * a.abs().max().double() and (gap > 0).double().mean() > 0.05:
        return Change("rounding_sized", f"changed by rounding, at most {gap.max().item():.2g}", {"largest": gap.max().item()})
    return None


def unrelated(a, b) -> Change | None:
    if a.shape != b.shape or not a.is_floating_point() or a.numel() < 64 or not b.isfinite().all():
        return None
    x, y = a.flatten().double(), b.flatten().double()
    x, y = x - x.mean(), y - y.mean()
    norm = (x.norm() * y.norm()).item()
    if norm and abs((x @ y).item()) / norm < max(UNRELATED, 4 / math.sqrt(x.numel())):
        sorted_same = torch.equal(a.flatten().sort().values, b.flatten().sort().values)
        return None if sorted_same else Change("unrelated", "of other values altogether")
    return None


def _matrix(a, b) -> torch.Tensor | None:
    if a.shape != b.shape or a.dim() < 2 or not a.is_floating_point() or min(a.flatten(1).shape) < 8:
        return None
    difference = (b.double() - a.double()).flatten(1)
    return difference if difference.isfinite().all() and difference.any() else None


def _dense(difference) -> bool:
    return bool((difference.any(1).double().mean() > 0.4) and (difference.any(0).double().mean() > 0.4))


def _rank(difference) -> int | None:
    if min(difference.shape) > 2048:
        return None
    values = torch.linalg.svdvals(difference)
    # Weights in float32 hold the sum with an error of one rounding of the weights, not of the difference.
    return int((values > 1e-3 * values[0]).sum())


def _rank_one(difference) -> bool:
    return _rank(difference) == 1


ONE_WAY = (imaginary_lost, phases_rounded, rounded, constant, damaged)
