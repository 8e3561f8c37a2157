"""A side of which only the picture is left."""

from __future__ import annotations

from whydiff.errors import Trouble
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.pictures import to_image
from whydiff.places import Place


def image_trace(path, role: str) -> Trace:
    """A trace that holds nothing but an image file. Raises Trouble for what is no image."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise Trouble(f"{role}: {path} does not exist.")
    try:
        with Image.open(path) as picture:
            image, bits = to_image(picture.convert("RGB"))
            kind = picture.format
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise Trouble(f"{role}: {path} is not an image that can be read ({error}).") from None
    trace = Trace(producer={"name": path.name, "format": kind})
    trace.add(Event(Place("image"), image, component=f"{bits} bit" if bits else None))
    return trace
