"""Looks at a picture and says what it shows, so that drawing accuracy is counted without a human."""

import numpy as np
from shapes import BACKGROUNDS, COLOURS, SHAPES, parse_caption
from skimage.measure import label, regionprops

FOREGROUND_DISTANCE = 90
"""RGB distance from the background: about half of the smallest one between colour and background (160)."""
PALETTE_DISTANCE = 70
"""A colour further than this from every palette colour is called "unknown"."""
SMALLEST_OBJECT = 12
"""Pixels. The smallest object drawn has about 150; anything from here on is counted as an object."""
SHAPE_OVERLAP = 0.8
"""Intersection over union with the ideal shape below which a blob is called "unknown"."""


def nearest_name(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    """Name of the palette colour nearest to an RGB colour, or "unknown"."""
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in palette.items()}
    name = min(distances, key=distances.get)
    return name if distances[name] <= PALETTE_DISTANCE else "unknown"


def ideal_mask(shape: str, height: int, width: int) -> np.ndarray:
    """(height, width), bool: the shape filling its bounding box."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    masks = {
        "circle": (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1,
        "square": np.ones((height, width), bool),
        "triangle": np.abs(2 * u - 1) <= v,
    }
    return masks[shape]


def shape_of(mask: np.ndarray) -> str:
    """The shape whose ideal overlaps most with `mask` (cut to its bounding box), or "unknown"."""
    overlap = {}
    for shape in SHAPES:
        ideal = ideal_mask(shape, *mask.shape)
        overlap[shape] = (ideal & mask).sum() / (ideal | mask).sum()
    best = max(overlap, key=overlap.get)
    stretched = not 0.7 <= mask.shape[0] / mask.shape[1] <= 1.4
    return "unknown" if stretched or overlap[best] < SHAPE_OVERLAP else best


def describe(picture: np.ndarray) -> tuple[str, list[tuple[str, str]]]:
    """Background and (colour, shape) of every object in a picture (H, W, 3), uint8."""
    pixels = picture.astype(float)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, axis=0)
    foreground = np.linalg.norm(pixels - background, axis=-1) > FOREGROUND_DISTANCE
    objects = []
    for region in regionprops(label(foreground, connectivity=1)):
        if region.area >= SMALLEST_OBJECT:
            colour = np.median(pixels[region.coords[:, 0], region.coords[:, 1]], axis=0)
            objects.append((nearest_name(colour, COLOURS), shape_of(region.image)))
    return nearest_name(background, BACKGROUNDS), objects


def check(picture: np.ndarray, caption: str) -> dict[str, bool]:
    """Which parts of the caption the picture (H, W, 3), uint8, gets right; `all` is every one of them."""
    scene = parse_caption(caption)
    background, objects = describe(picture)
    verdict = {
        "colour": bool(objects) and all(colour == scene.colour for colour, _ in objects),
        "shape": bool(objects) and all(shape == scene.shape for _, shape in objects),
        "count": len(objects) == scene.count,
        "background": background == scene.background,
    }
    return verdict | {"all": all(verdict.values())}
