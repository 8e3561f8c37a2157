"""Pixels of the report as PNG addresses: what the sides made, where they differ, and what of it is seen."""

from __future__ import annotations

import base64
import io

import numpy as np

from whydiff.report.views.colours import SIZE

FRAMES = 5  # of a video
WIDEST = 1024  # pixels of a whole picture; more is reduced, and said
LIMITS = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # at which the scale of a difference may end


def frames(image) -> list[np.ndarray]:
    """(B, H, W, C) or (B, F, H, W, C) in [0, 1] -> up to FRAMES pictures (H, W, 3), evenly spread."""
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    chosen = np.unique(np.linspace(0, len(pixels) - 1, min(FRAMES, len(pixels))).round().astype(int))
    pixels = pixels[chosen][..., :3].clip(0, 1)
    return [np.broadcast_to(p, (*p.shape[:2], 3)) if p.shape[-1] == 1 else p for p in pixels]


def middle(image) -> np.ndarray:
    """(H, W, 3) of a picture, or of the frame in the middle of a video."""
    found = frames(image)
    return found[len(found) // 2 if np.ndim(image) == 5 else 0]


def signed(reference, candidate) -> tuple[str, float]:
    """candidate − reference of two pictures of one shape as PNG, dark below 0 and light above, what is equal left transparent;
    and the number at which its scale ends."""
    import torch

    from whydiff.measure.pictures import signed_difference

    pairs = zip(frames(reference), frames(candidate), strict=True)
    values = [signed_difference(*(torch.from_numpy(np.ascontiguousarray(p))[None] for p in pair))[0].numpy() for pair in pairs]
    largest = max((float(np.abs(v).max()) for v in values), default=0.0)
    limit = min((step for step in LIMITS if step >= largest), default=1)
    return png([_coloured(v, (v / limit + 1) / 2) for v in values]), limit


def seen(reference, candidate) -> str:
    """The FLIP error of each pixel as PNG, dark where nothing is seen, light at 1, what is exactly 0 left transparent."""
    import torch

    from whydiff.measure.pictures import flip

    pairs = zip(frames(reference), frames(candidate), strict=True)
    maps = [flip(*(torch.from_numpy(np.ascontiguousarray(p))[None] for p in pair))[1][0].numpy() for pair in pairs]
    return png([_coloured(error, error) for error in maps])


def _coloured(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(H, W) -> RGBA by the place on the scale, 0 to 1; what is exactly 0 is transparent."""
    import matplotlib

    colours = matplotlib.colormaps[SIZE](place.clip(0, 1)).astype(np.float32)
    colours[values == 0] = 0
    return colours


def png(pictures: list[np.ndarray], widest: int = WIDEST) -> str:
    """Pictures side by side as one PNG address, pixel by pixel; wider ones are reduced."""
    from PIL import Image

    gap = np.zeros((pictures[0].shape[0], 1, pictures[0].shape[-1]), dtype=np.float32)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    image = Image.fromarray((np.concatenate(parts, axis=1) * 255).round().astype(np.uint8))
    most = widest * (1 if len(pictures) == 1 else 2)
    if image.width > most:
        image = image.resize((most, max(1, round(image.height * most / image.width))), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
