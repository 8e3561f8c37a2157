"""The captions that tiny-flux understands, and the pictures that they mean."""

import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 80, 220), "yellow": (240, 210, 40)}
SHAPES = ("circle", "square", "triangle")
COUNTS = {"a": 1, "two": 2}
BACKGROUNDS = {"white": (245, 245, 245), "black": (20, 20, 20)}
SIZES = ((64, 48), (48, 64))
"""(width, height) of the two orientations, in pixels."""
SUPERSAMPLING = 4


class Scene(NamedTuple):
    """What a picture shows: `count` equal shapes of one colour on a plain background."""

    count: int
    colour: str
    shape: str
    background: str


def all_captions() -> list[str]:
    """The whole grammar, 72 captions: "a red circle", "two blue squares on black". Unsaid means on white."""
    parts = itertools.product(COUNTS, COLOURS, SHAPES, ("", " on white", " on black"))
    return [
        f"{count} {colour} {shape}{'s' if count == 'two' else ''}{tail}"
        for count, colour, shape, tail in parts
    ]


def parse_caption(caption: str) -> Scene:
    """The scene a caption asks for. Raises ValueError for a caption outside the grammar."""
    if caption not in all_captions():
        raise ValueError(
            f"{caption!r} is not in the grammar. Examples: 'a red circle', 'two blue squares on black'."
        )
    body, _, background = caption.partition(" on ")
    count, colour, shape = body.split()
    return Scene(COUNTS[count], colour, shape.removesuffix("s"), background or "white")


def words() -> list[str]:
    """Every word of the grammar, once, in a fixed order: the vocabulary of both tokenizers."""
    return list(dict.fromkeys(word for caption in all_captions() for word in caption.split()))


def random_caption(rng: np.random.Generator) -> str:
    """A caption in which every count, colour, shape and background is equally likely."""
    count, colour, shape = rng.choice(list(COUNTS)), rng.choice(list(COLOURS)), rng.choice(SHAPES)
    tail = rng.choice(["", " on white", " on black", " on black"])
    return f"{count} {colour} {shape}{'s' if count == 'two' else ''}{tail}"


def place_shapes(
    count: int, width: int, height: int, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    """Centre x, centre y and radius of each shape, in pixels. Two shapes share a size and the long side."""
    long_side, short_side = max(width, height), min(width, height)
    if count == 1:
        along, across, radius = (
            [long_side / 2 + rng.uniform(-10, 10)],
            [24 + rng.uniform(-5, 5)],
            rng.uniform(13, 17),
        )
    else:
        along = [long_side * quarter + rng.uniform(-2.5, 2.5) for quarter in (0.25, 0.75)]
        across = [short_side / 2 + rng.uniform(-8, 8) for _ in range(2)]
        radius = rng.uniform(9, 11)
    centres = zip(along, across) if width > height else zip(across, along)
    return [(x, y, radius) for x, y in centres]


def draw_scene(scene: Scene, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3), uint8: the scene with positions and sizes drawn from `rng`, edges smoothed."""
    big = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), BACKGROUNDS[scene.background])
    pen, fill = ImageDraw.Draw(big), COLOURS[scene.colour]
    for centre_x, centre_y, radius in place_shapes(scene.count, width, height, rng):
        x, y, r = (SUPERSAMPLING * value for value in (centre_x, centre_y, radius))
        if scene.shape == "circle":
            pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)
        elif scene.shape == "square":
            pen.rectangle([x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r], fill=fill)
        else:
            pen.polygon([(x, y - r), (x - r, y + 0.85 * r), (x + r, y + 0.85 * r)], fill=fill)
    return np.asarray(big.resize((width, height), Image.Resampling.BOX))


def make_dataset(number: int, width: int, height: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Pictures (number, height, width, 3), uint8, and their captions. The same seed gives the same set."""
    rng = np.random.default_rng(seed)
    captions = [random_caption(rng) for _ in range(number)]
    pictures = np.stack([draw_scene(parse_caption(caption), width, height, rng) for caption in captions])
    return pictures, captions
