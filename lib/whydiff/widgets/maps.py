"""Tensors as maps for a browser: planes of rows and columns, one byte a value, never more than a budget of bytes.

A byte of a value counts from 1 (lowest) to 255 (highest), a byte of a difference from 1 (most negative) over 128 (exactly zero)
to 255; 0 is what is not finite. What is too large is averaged over squares, and differences keep the largest of each square.
"""

from __future__ import annotations

import base64
import dataclasses

import numpy as np

MOST_MAPS, LONGEST = 16, 64  # planes of a tensor, and rows or columns of a plane
EXACT = 128


@dataclasses.dataclass(frozen=True)
class Maps:
    """`values` (n, rows, columns), a label for each plane, and what a row and a column are."""

    values: np.ndarray
    labels: list[str]
    axes: tuple[str, str]


def maps_of(tensor, probe: str, latent_size: tuple[int, int] | None = None) -> Maps | None:
    """The planes of a tensor, (..., H, W), (B, tokens, features) or (tokens, features); None where it is only a list of numbers.

    `latent_size`: height and width of the latents, so that packed tokens are shown where they lie in the picture.
    """
    values = np.asarray(tensor.detach().cpu().double().numpy() if hasattr(tensor, "detach") else tensor, dtype=np.float64)
    if probe == "image":
        values = np.moveaxis(values, -1, -3)
    if values.ndim == 3 and (unpacked := _unpacked(values, latent_size)) is not None:
        values = unpacked
    if values.ndim < 2 or min(values.shape[-2:]) < 2:
        return None
    spread = values.ndim > 3 or probe == "image"
    lead = values.shape[:-2]
    film = ("item", "frame", "channel") if probe == "image" else ("item", "channel", "frame")
    names = {1: ("channel",), 2: ("item", "channel"), 3: film}
    words = names.get(len(lead), ()) if spread else ("item",) * len(lead)
    labels = [_label(index, lead, words) for index in np.ndindex(*lead)]
    return Maps(values.reshape(-1, *values.shape[-2:]), labels, ("row", "column") if spread else ("token", "feature"))


def _label(index: tuple[int, ...], lead: tuple[int, ...], words: tuple[str, ...]) -> str:
    words = words or tuple(f"axis {i}" for i in range(len(lead)))
    parts = [f"{word} {i}" for word, i, size in zip(words, index, lead, strict=True) if size > 1]
    return ", ".join(parts) or "all"


def _unpacked(values: np.ndarray, size: tuple[int, int] | None) -> np.ndarray | None:
    """(B, tokens, features) of packed latents as (B, channels, H, W); None where they are no grid of the latents' size."""
    if size is None:
        return None
    batch, tokens, features = values.shape
    for patch in (1, 2):
        rows, columns = size[0] // patch, size[1] // patch
        if rows * columns == tokens and features % patch**2 == 0 and size[0] % patch == size[1] % patch == 0:
            grid = values.reshape(batch, rows, columns, features // patch**2, patch, patch)
            return grid.transpose(0, 3, 1, 4, 2, 5).reshape(batch, -1, *size)
    return None


def encoded(reference: Maps, candidate: Maps | None, budget: int) -> dict:
    """Both sides and their difference for the page. `budget`: bytes that all three may take together."""
    chosen, square = _fitted(reference.values.shape, budget)
    mine = reference.values[chosen]
    theirs = None if candidate is None else candidate.values[chosen]
    shown = {"kind": "maps", "labels": [reference.labels[i] for i in chosen], "axes": list(reference.axes), "square": square,
             "of": len(reference.labels), "equal": False, "candidate": None, "difference": None}  # fmt: skip
    finite = [part[np.isfinite(part)] for part in (mine, theirs) if part is not None]
    known = np.concatenate([part.ravel() for part in finite]) if finite else np.zeros(0)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    small = averaged(mine, square)
    shown |= {"rows": small.shape[1], "columns": small.shape[2], "low": low, "high": high, "limit": 0.0,
              "reference": packed(coded(small, low, high))}  # fmt: skip
    if theirs is None:
        return shown
    shown["equal"] = bool(np.array_equal(mine, theirs, equal_nan=True))
    if not shown["equal"]:
        with np.errstate(invalid="ignore"):
            gap = theirs - mine
        limit = float(np.abs(gap[np.isfinite(gap)]).max(initial=0.0))
        shown |= {"limit": limit, "candidate": packed(coded(averaged(theirs, square), low, high)),
                  "difference": packed(coded_difference(extreme(gap, square), limit))}  # fmt: skip
    return shown


def _fitted(shape: tuple[int, int, int], budget: int) -> tuple[list[int], int]:
    """Which planes are shown, and over how many values along each side they are averaged, so that three sides fit `budget`."""
    count, rows, columns = shape
    kept, square = min(count, MOST_MAPS), max(1, -(-max(rows, columns) // LONGEST))

    def size() -> int:
        return 3 * kept * -(-rows // square) * -(-columns // square)

    while size() > budget and kept > 4:
        kept -= 1
    while size() > budget and square < max(rows, columns):
        square += 1
    return np.unique(np.linspace(0, count - 1, kept).round().astype(int)).tolist(), square


def _squares(values: np.ndarray, square: int) -> np.ndarray:
    """(n, rows, columns, square²), the last rows and columns filled up with what is next to them."""
    fill = [(0, 0), *((0, -size % square) for size in values.shape[1:])]
    whole = np.pad(values, fill, mode="edge")
    n, rows, columns = whole.shape
    parts = whole.reshape(n, rows // square, square, columns // square, square)
    return parts.transpose(0, 1, 3, 2, 4).reshape(n, rows // square, columns // square, -1)


def averaged(values: np.ndarray, square: int) -> np.ndarray:
    return values if square == 1 else _squares(values, square).mean(-1)


def extreme(values: np.ndarray, square: int) -> np.ndarray:
    """Of each square the value that is furthest from 0, with its sign; what is not finite wins."""
    if square == 1:
        return values
    parts = _squares(values, square)
    size = np.where(np.isfinite(parts), np.abs(parts), np.inf)
    return np.take_along_axis(parts, size.argmax(-1)[..., None], -1)[..., 0]


def coded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as bytes: 1 at `low`, 255 at `high`, 0 where not finite."""
    span = high - low or 1.0
    place = np.nan_to_num((values - low) / span, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    return np.where(np.isfinite(values), 1 + np.rint(254 * place), 0).astype(np.uint8)


def coded_difference(values: np.ndarray, limit: float) -> np.ndarray:
    """Signed differences as bytes: 1 at -limit, 255 at limit, 128 where exactly zero and nowhere else, 0 where not finite."""
    steps = np.ceil(127 * np.nan_to_num(np.abs(values) / (limit or 1.0), nan=0.0, posinf=0.0).clip(0, 1))
    codes = EXACT + np.sign(np.nan_to_num(values)) * np.maximum(steps, values != 0)
    return np.where(np.isfinite(values), codes, 0).clip(0, 255).astype(np.uint8)


def packed(codes: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(codes).tobytes()).decode()
