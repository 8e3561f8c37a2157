"""Pictures of strangers: opened by the formats that are named here alone, and not unfolded where they are absurdly large."""

from __future__ import annotations

import contextlib
import pathlib
import warnings

import torch

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.traces.strangers import reading, regular
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.pictures import to_image
from whydiff.places import Place

# Pillow goes by content: what is called .png may be PostScript, for which it would start another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
PIXEL = 12  # bytes of one in memory: three float32
_REMEDY = "Save it again as PNG."


@contextlib.contextmanager
def picture(path: pathlib.Path):
    """A PIL picture, its pixels not read yet. Raises Trouble for what is none, or is too large; also for what goes wrong inside."""
    from PIL import Image

    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked below, before any pixel is read
    try:
        with reading(path, "an image that can be read", _REMEDY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's about damage and odd metadata: the pixels are what counts
            with Image.open(regular(pathlib.Path(path)), formats=FORMATS) as opened:
                limits.PIXELS.check(opened.width * opened.height, path)
                limits.check_unpacked(PIXEL * opened.width * opened.height, path.stat().st_size, path)
                yield opened
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def read_image(path: pathlib.Path) -> torch.Tensor:
    """(B, H, W, C) float32 in [0, 1]."""
    with picture(path) as opened:
        return to_image(opened.convert("RGB"))[0]


def read_frames(path: pathlib.Path) -> torch.Tensor:
    """(1, H, W, C) of a picture, (1, F, H, W, C) of an animated one."""
    from PIL import ImageSequence

    with picture(path) as opened:
        if getattr(opened, "n_frames", 1) == 1:
            return to_image(opened.convert("RGB"))[0]
        frames = []
        for number, frame in enumerate(ImageSequence.Iterator(opened), 1):
            limits.FRAMES.check(number * frame.width * frame.height, path)
            limits.check_unpacked(PIXEL * number * frame.width * frame.height, path.stat().st_size, path, limits.FILM_RATIO)
            frames.append(to_image(frame.convert("RGB"))[0][0])
        return torch.stack(frames)[None]


def image_trace(path, role: str) -> Trace:
    """A trace that holds nothing but an image file. Raises Trouble for what is no image."""
    if not path.is_file():
        raise Trouble(f"{role}: {path} does not exist.")
    with picture(path) as opened:
        image, bits = to_image(opened.convert("RGB"))
        kind = opened.format
    trace = Trace(producer={"name": path.name, "format": kind})
    trace.add(Event(Place("image"), image, component=f"{bits} bit" if bits else None))
    return trace
