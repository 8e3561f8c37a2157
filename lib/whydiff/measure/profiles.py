"""Where an error sits: its share along each axis of a tensor, and in words where it is concentrated."""

from __future__ import annotations

import dataclasses
import itertools
import re

import torch
from torch import Tensor

from whydiff.measure.tensors import wide

MOST = 0.95  # the share of the squared error that a part must hold to be called its place
SMALL = 1 / 3  # and the share of the indices that it may take up
BARS = 48  # of a profile that is kept or drawn
PICTURE, VIDEO = ("batch", "row", "column", "channel"), ("batch", "frame", "row", "column", "channel")
PLANES, CLIP = ("batch", "channel", "row", "column"), ("batch", "channel", "frame", "row", "column")
TOKENS = ("batch", "token", "channel")


@dataclasses.dataclass(frozen=True)
class Profile:
    """`shares`: how much of the squared error each index of an axis holds; they sum to 1."""

    axis: int
    name: str
    shares: tuple[float, ...]

    def to_dict(self, most: int = BARS) -> dict:
        """`{"axis": "token", "size": 512, "shares": [...]}`; a longer axis is cut into `most` parts of nearly equal length."""
        size = len(self.shares)
        edges = [i * size // min(size, most) for i in range(min(size, most) + 1)]
        return {"axis": self.name, "size": size, "shares": [sum(self.shares[a:b]) for a, b in itertools.pairwise(edges)]}

    @property
    def concentrated(self) -> tuple[int, int, float] | None:
        """(first, last, share) of the smallest run of indices that holds most of the error, if it is a small part of the axis."""
        size = len(self.shares)
        if size < 3:
            return None if size < 2 or max(self.shares) < MOST else (*[self.shares.index(max(self.shares))] * 2, max(self.shares))
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(self.shares, dtype=torch.float64).cumsum(0)])
        for length in range(1, max(1, int(size * SMALL)) + 1):
            held = sums[length:] - sums[:-length]
            first = int(held.argmax())
            if float(held[first]) >= MOST:
                return first, first + length - 1, float(held[first])
        return None


def axis_names(shape, probe: str, heads: int | None = None) -> tuple[str, ...]:
    """What the axes of a tensor of a probe are; `heads`: the size of an axis that counts attention heads."""
    name = re.sub(r"_\d+$", "", probe.split("/")[0])
    n = len(shape)
    if name == "image" and n in (4, 5):
        names = PICTURE if n == 4 else VIDEO
    elif "embeds" in name or probe.endswith(("encoder_hidden_states", "ids", "mask")):
        names = ("batch", "channel") if n == 2 and "embeds" in name else TOKENS[:n] if n <= 3 else ()
    else:
        names = {3: TOKENS, 4: PLANES, 5: CLIP}.get(n, ())
    names = names or tuple(f"axis {i}" for i in range(n))
    if heads and n == 4 and heads in shape[1:3]:
        at = 1 if shape[1] == heads else 2
        names = ("batch", "head", "token", "channel") if at == 1 else ("batch", "token", "head", "channel")
    return names


def profile(reference: Tensor, candidate: Tensor, probe: str, grid: tuple[int, ...] | None = None, heads: int | None = None) -> list[Profile]:
    """The squared error along each axis that is longer than 1; nothing where the tensors are equal or not comparable.

    `grid`: (frames, rows, columns) or (rows, columns) of packed tokens, whose axis is then told apart; `heads`: of an
    attention, whether they have an axis of their own or lie side by side in the last one, (B, L, heads * channels).
    """
    if reference.shape != candidate.shape or not reference.numel():
        return []
    error = (wide(candidate) - wide(reference)).abs() ** 2
    names = axis_names(reference.shape, probe, heads)
    if heads and heads > 1 and "head" not in names and names[-1:] == ("channel",) and error.shape[-1] % heads == 0:
        error, names = error.unflatten(-1, (heads, -1)), (*names[:-1], "head", "channel")
    error = torch.where(error.isfinite(), error, torch.ones_like(error))  # NaN: at least as wrong as anything
    if grid and "token" in names and torch.Size(grid).numel() == reference.shape[names.index("token")]:
        at, parts = names.index("token"), ("frame", "row", "column")[-len(grid) :]
        error = error.unflatten(at, tuple(grid))
        names = (*names[:at], *parts, *names[at + 1 :])
    total = float(error.sum())
    if not total:
        return []
    return [Profile(i, name, tuple((error.sum([j for j in range(error.ndim) if j != i]) / total).tolist() if error.ndim > 1
                                   else (error / total).tolist()))
            for i, name in enumerate(names) if error.shape[i] > 1]  # fmt: skip


def at_a_glance(reference: Tensor, candidate: Tensor, probe: str, grid: tuple[int, ...] | None = None, heads: int | None = None,
                padding: Tensor | None = None) -> str:  # fmt: skip
    """Where the error is concentrated, and how much of it: "99 % of the squared error in the last frame"; "" where it is spread.

    `padding`: for each token whether it is padding (L,), to call those tokens what they are.
    """
    found = profile(reference, candidate, probe, grid, heads)
    parts = []
    for entry in found:
        if padding is not None and entry.name == "token" and padding.numel() == len(entry.shares) and bool(padding.any()):
            share = sum(s for s, pad in zip(entry.shares, padding.tolist(), strict=True) if pad)
            if share >= MOST:
                parts.append((share, "the padding tokens"))
                continue
        run = entry.concentrated
        if run is not None:
            parts.append((run[2], _run(entry, *run[:2])))
    border = None if any(p.name in ("row", "column") and p.concentrated for p in found) else _border(reference, candidate, found)
    if border is not None:
        parts.append((border, "the border"))
    if not parts:
        return ""
    return f"{100 * min(share for share, _ in parts):.3g} % of the squared error in {', '.join(words for _, words in parts)}"


def _run(entry: Profile, first: int, last: int) -> str:
    size = len(entry.shares)
    plural = entry.name if entry.name.startswith("axis") else f"{entry.name}{'es' if entry.name.endswith('ch') else 's'}"
    if first == last:
        edge = {0: "first", size - 1: "last"}.get(first)
        if edge and entry.name in ("frame", "row", "column", "token"):
            return f"the {edge} {entry.name}"
        return f"{entry.name} {first}"
    return f"{plural} {first} to {last}" + (" (the last)" if last == size - 1 else " (the first)" if first == 0 else "")


def _border(reference: Tensor, candidate: Tensor, found: list[Profile]) -> float | None:
    """The share of the error in the outermost sixteenth (at least one index) of rows and columns, if that is most of it."""
    axes = {p.name: p for p in found}
    if not {"row", "column"} <= set(axes) or reference.ndim not in (4, 5) or axes["row"].axis >= reference.ndim:
        return None
    error = (wide(candidate) - wide(reference)).abs() ** 2
    inner, area = error, 1.0
    for name in ("row", "column"):
        axis, size = axes[name].axis, len(axes[name].shares)
        if error.shape[axis] != size:
            return None  # packed tokens: their axes are not the tensor's
        edge = max(1, size // 16)
        if size <= 2 * edge:
            return None
        inner, area = inner.narrow(axis, edge, size - 2 * edge), area * (size - 2 * edge) / size
    share = 1 - float(inner.sum() / error.sum())
    return share if share >= MOST and 1 - area <= 0.5 else None
