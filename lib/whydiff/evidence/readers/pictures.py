"""Pictures and films, with what their makers wrote into them: parameters of A1111 and others, and graphs of ComfyUI."""

from __future__ import annotations

import pathlib
import re

import torch

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.readers import graphs
from whydiff.evidence.traces.files import IMAGES
from whydiff.evidence.traces.image_file import picture, read_frames
from whydiff.evidence.traces.strangers import json_of, reading, regular
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
    trace = Trace()
    trace.add(Event(Place("image"), read_frames(path), component="8 bit"))
    with picture(path) as opened:
        lossy = opened.format in ("JPEG", "MPO") or (opened.format == "WEBP" and not _lossless(path))
        trace.settings = written(opened)
        trace.producer = {"notes": [f"{opened.format} loses detail: the picture is not what the pipeline put out"] if lossy else []}
        trace.producer |= {"image_format": opened.format, "mode": opened.mode}
    limits.check_values(trace.settings, path)
    return trace


def _lossless(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return b"VP8L" in file.read(64)


def written(picture) -> dict:
    """Settings in the picture's own text, as far as a known program wrote them; {} otherwise."""
    graph = picture.info.get("prompt")
    if isinstance(graph, str) and graph.lstrip().startswith("{"):
        try:
            return graphs.settings(json_of(graph, "its graph"))
        except Trouble:
            return {}
    try:
        from sd_parsers import ParserManager
    except ImportError:
        return {}
    try:
        return _parsed(ParserManager().parse(picture))
    except Exception:  # text that only looks like a known program's: there are the pixels still
        return {}


def _parsed(found) -> dict:
    """The settings that sd-parsers found, under our names."""
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
    with reading(path, "a film that can be read", "Export the frames as PNG files."), av.open(str(regular(path))) as film:
        stream = film.streams.video[0]
        colours = stream.codec_context
        frames = []
        for frame in film.decode(stream):
            limits.FRAMES.check((len(frames) + 1) * frame.width * frame.height, path)
            frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
        words = f"{colours.name}, {colours.pix_fmt}, colour range {_RANGES.get(int(colours.color_range or 0), 'not stated')}"
    if not frames:
        raise Trouble(f"{path}: holds no frame.")
    notes = [f"{len(frames)} frames, {words}; a codec loses detail, so small differences of pixels are its own"]
    with reading(path, "a film that can be read", "Its frames have several sizes."):
        return torch.stack(frames)[None].float() / 255, notes


_RANGES = {1: "16 to 235 (limited)", 2: "0 to 255 (full)"}
