"""Pixels as data addresses, small enough to travel in a notebook; plain `<img>` is what an untrusted notebook still shows."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

LOSSLESS, WIDEST = 160_000, 640  # pixels kept exact as PNG; beyond, WebP of at most this width or height
# Lightness only grows from low to high, for seeing in grey (after cividis); differences: blue below, brown above, grey where none.
STOPS = np.array([[0, 32, 77], [58, 73, 107], [124, 123, 120], [187, 175, 113], [255, 234, 70]], dtype=np.float64)
BELOW, ABOVE, NONE = np.array([11, 78, 150.0]), np.array([160, 72, 0.0]), np.array([201, 201, 201.0])


def address(pixels: np.ndarray) -> str:
    """(H, W, 3) in [0, 1] as a data address: PNG, or WebP where a PNG would be too large for a notebook."""
    from PIL import Image

    picture = Image.fromarray((np.nan_to_num(pixels).clip(0, 1) * 255).round().astype(np.uint8))
    buffer = io.BytesIO()
    exact = picture.width * picture.height <= LOSSLESS
    if exact:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.thumbnail((WIDEST, WIDEST))
        picture.save(buffer, "WEBP", quality=85)
    return f"data:image/{'png' if exact else 'webp'};base64," + base64.b64encode(buffer.getvalue()).decode()


def sequential(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as colours, (..., 3) in [0, 1]."""
    place = np.nan_to_num(values).clip(0, 1) * (len(STOPS) - 1)
    low = np.minimum(place.astype(int), len(STOPS) - 2)
    return (STOPS[low] + (place - low)[..., None] * (STOPS[low + 1] - STOPS[low])) / 255


def signed(values: np.ndarray, limit: float) -> np.ndarray:
    """Signed values as colours: white near 0, blue to -limit, brown to limit, and exactly 0 in a grey of its own."""
    share = np.nan_to_num(values / (limit or 1.0)).clip(-1, 1)[..., None]
    colours = 255 + np.abs(share) * (np.where(share < 0, BELOW, ABOVE) - 255)
    return np.where(values[..., None] == 0, NONE, colours) / 255


def enlarged(pixels: np.ndarray, width: int = 256) -> np.ndarray:
    """Every pixel repeated so that the whole is about `width` wide."""
    factor = max(1, round(width / pixels.shape[1]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def figure(pictures: list[tuple[str, str]], words: str = "", width: int = 240) -> str:
    """Plain HTML that survives a notebook's sanitiser: pictures with their captions side by side. `pictures`: (caption, address)."""
    cells = "".join(f'<td style="text-align:left;vertical-align:top"><img alt="{html.escape(caption)}" src="{source}" width="{width}">'
                    f"<br>{html.escape(caption)}</td>" for caption, source in pictures)  # fmt: skip
    table = f"<table><tr>{cells}</tr></table>" if pictures else ""
    return f"<div>{table}<p>{html.escape(words)}</p></div>"


def captioned(data: dict) -> list[tuple[str, str]]:
    """The pictures of the first frame, each with words that say what it is and on which scale."""
    if not data["frames"]:
        return []
    frame = data["frames"][0]
    found = [(f"{role}: {data['names'][role]}, {data['sizes'][role]}", frame[role]) for role in ("reference", "candidate") if frame[role]]
    if frame["difference"]:
        found.append((f"difference, candidate minus reference, from -{data['limit']:.3g} to {data['limit']:.3g}; grey: none", frame["difference"]))
    if frame["flip"]:
        found.append((f"FLIP, the difference as seen, from 0 to {data['flipLimit']:.3g}", frame["flip"]))
    return found
