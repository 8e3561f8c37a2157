"""Video measured frame by frame: where it begins to differ, how much contrast and fine detail each frame has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from whydiff.measure.compare import relative_l2


def frame_differences(reference: Tensor, candidate: Tensor) -> list[float]:
    """Relative L2 distance of each frame; both (B, F, H, W, C). Raises ValueError where shapes differ or there is no axis of frames."""
    if reference.shape != candidate.shape or reference.dim() != 5:
        raise ValueError(f"frames of one shape (B, F, H, W, C) are needed, not {tuple(reference.shape)} and {tuple(candidate.shape)}.")
    return [relative_l2(a, b) for a, b in zip(reference.unbind(1), candidate.unbind(1))]


def first_beyond(differences: Sequence[float | None], limits: Sequence[float]) -> int | None:
    """The first frame whose difference exceeds its limit; None is "never". A difference that is None could not be taken: it counts."""
    return next((i for i, (d, limit) in enumerate(zip(differences, limits)) if d is None or not d <= limit), None)


def contrast(frames: Tensor) -> list[float]:
    """Standard deviation of each frame, (B, F, ...)."""
    return [frame.double().std().item() for frame in frames.unbind(1)]


def fine_detail(frames: Tensor) -> list[float]:
    """Share of each frame's energy (its mean apart) above half the Nyquist frequency in either direction; (B, F, H, W, C).

    White noise has 0.75 up to the grid; a frame made of large areas has next to nothing.
    """
    shares = []
    for frame in frames.double().unbind(1):
        spectrum = torch.fft.fft2(frame.movedim(-1, 1)).abs().square()
        rows, columns = (torch.fft.fftfreq(size).abs() for size in spectrum.shape[-2:])
        fine = torch.maximum(rows[:, None], columns[None]) > 0.25
        spectrum[..., 0, 0] = 0
        total = spectrum.sum()
        shares.append((spectrum[..., fine].sum() / total).item() if total > 0 else 0.0)
    return shares


def equal_pairs(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(i, j) for which one[i] and other[j] are equal bit for bit: draws that two runs share."""
    return [(i, j) for (i, a), (j, b) in itertools.product(enumerate(one), enumerate(other)) if torch.equal(a, b)]
