"""Pictures and films, with what their makers wrote into them: parameters of A1111 and others, and graphs of ComfyUI."""

from __future__ import annotations

import json
import pathlib
import re

import torch

from whydiff.errors import Trouble
from whydiff.evidence.readers import graphs
from whydiff.evidence.traces.files import IMAGES, read_image
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

NAME, WHAT = "picture", "an image or a film, with the parameters or the graph written into it"
FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi")
# What sd-parsers calls the settings of a sampler.
SAMPLER = {"seed": "seed", "steps": "num_inference_steps", "cfg_scale": "guidance_scale", "scheduler": "sigma_schedule",
           "denoise": "strength", "denoising strength": "strength", "clip skip": "clip_skip"}  # fmt: skip


def matches(path: pathlib.Path) -> bool:
    return path.is_file() and path.suffix.lower() in (*IMAGES, *FILMS)


def read(path: pathlib.Path) -> Trace:
    """The picture as `image`, (B, H, W, C) or (B, F, H, W, C) in [0, 1], and the settings that were written into it."""
    if path.suffix.lower() in FILMS:
        image, notes = _film(path)
        trace = Trace(producer={"notes": notes})
        trace.add(Event(Place("image"), image, component="8 bit"))
        return trace
    from PIL import Image

    trace = Trace()
    trace.add(Event(Place("image"), _frames(path), component="8 bit"))
    with Image.open(path) as picture:
        lossy = picture.format in ("JPEG", "MPO") or (picture.format == "WEBP" and not _lossless(path))
        trace.settings = written(picture)
        trace.producer = {"notes": [f"{picture.format} loses detail: the picture is not what the pipeline put out"] if lossy else []}
        trace.producer |= {"image_format": picture.format, "mode": picture.mode}
    return trace


def _frames(path: pathlib.Path) -> torch.Tensor:
    """(1, H, W, C) of a picture, (1, F, H, W, C) of an animated one."""
    from PIL import Image, ImageSequence

    from whydiff.measure.pictures import to_image

    with Image.open(path) as picture:
        if getattr(picture, "n_frames", 1) == 1:
            return read_image(path)
        return torch.stack([to_image(frame.convert("RGB"))[0][0] for frame in ImageSequence.Iterator(picture)])[None]


def _lossless(path: pathlib.Path) -> bool:
    return b"VP8L" in path.read_bytes()[:64]


def written(picture) -> dict:
    """Settings in the picture's own text, as far as a known program wrote them; {} otherwise."""
    graph = picture.info.get("prompt")
    if isinstance(graph, str) and graph.lstrip().startswith("{"):
        try:
            return graphs.settings(json.loads(graph))
        except ValueError:
            return {}
    try:
        from sd_parsers import ParserManager
    except ImportError:
        return {}
    found = ParserManager().parse(picture)
    if found is None:
        return {}
    settings: dict = {}
    for sampler in found.samplers:
        settings |= {"sampler": sampler.name} | {SAMPLER[k.lower()]: _number(v) for k, v in sampler.parameters.items() if k.lower() in SAMPLER}
        settings |= {"prompt": sampler.prompts[0].value} if sampler.prompts else {}
        settings |= {"negative_prompt": sampler.negative_prompts[0].value} if sampler.negative_prompts else {}
        settings |= {"checkpoint": str(sampler.model.name)} if sampler.model and sampler.model.name else {}
    further = {SAMPLER[k.lower()]: _number(v) for k, v in found.metadata.items() if k.lower() in SAMPLER and isinstance(v, str)}
    size = re.fullmatch(r"(\d+)x(\d+)", str(found.metadata.get("Size", "")))
    return settings | further | ({"width": int(size[1]), "height": int(size[2])} if size else {})


def _number(value):
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            continue
    return value


def _film(path: pathlib.Path) -> tuple[torch.Tensor, list[str]]:
    """(1, F, H, W, 3) in [0, 1], and what must be known of its colours."""
    try:
        import av
    except ImportError:
        raise Trouble(f"{path}: reading films takes PyAV. Run pip install av, or export the frames as PNG files.") from None
    try:
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            colours = stream.codec_context
            frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in film.decode(stream)]
            words = f"{colours.name}, {colours.pix_fmt}, colour range {_RANGES.get(int(colours.color_range or 0), 'not stated')}"
    except (av.error.FFmpegError, IndexError, ValueError, OSError) as error:
        raise Trouble(f"{path}: not a film that can be read ({error}).") from None
    if not frames:
        raise Trouble(f"{path}: holds no frame.")
    notes = [f"{len(frames)} frames, {words}; a codec loses detail, so small differences of pixels are its own"]
    return torch.stack(frames)[None].float() / 255, notes


_RANGES = {1: "16 to 235 (limited)", 2: "0 to 255 (full)"}
