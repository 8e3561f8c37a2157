"""Faults between the decoder and the file, and between the user's picture and the encoder."""

from __future__ import annotations

import numpy as np
import torch

from whydiff.faults.fault import Trial, fault
from whydiff.faults.rewriting import edit
from whydiff.faults.surgery import wrap


def _processor(trial: Trial):
    """What turns decoded tensors into pictures."""
    pipeline = trial.faulty.pipeline
    return getattr(pipeline, "video_processor", None) or pipeline.image_processor


@fault("rgb-bgr", "flux", "flux_port", "sd15", "sdxl", "wan", "ltx")
def _(trial):
    if trial.faulty.kind == "flux_port":
        edit(trial.faulty.pipeline, "__call__", ("(image.float() / 2 + 0.5)", "(image.float()[:, [2, 1, 0]] / 2 + 0.5)"))
    else:
        wrap(_processor(trial), "denormalize", lambda denormalize, images: denormalize(images).flip(-3))


@fault("center-crop-vs-stretch", "sd15_inpaint", "wan_i2v")
def _(trial):
    """A picture of another shape than asked for: stretched on one side, cropped on the other."""
    from whydiff.faults.hosts.stable_diffusion import picture

    call = trial.faulty.call
    size = trial.draw.choice([(call["height"], call["height"]), (call["width"], call["width"]), (2 * call["height"], call["width"])])
    for host in (trial.faulty, trial.healthy):
        host.call["image"] = picture(*size)
    if trial.faulty.kind == "wan_i2v":
        edit(trial.faulty.pipeline, "__call__", ("self.video_processor.preprocess(image, height=height, width=width)",
             'self.video_processor.preprocess(image, height=height, width=width, resize_mode="crop")'))  # fmt: skip
    else:
        edit(trial.faulty.pipeline, "__call__", ('resize_mode = "default"', 'resize_mode = "crop"'))


_TO_YCC = {name: np.array([[r, g, b], [-r / (2 - 2 * b), -g / (2 - 2 * b), 0.5], [0.5, -g / (2 - 2 * r), -b / (2 - 2 * r)]])
           for name, (r, g, b) in {"601": (0.299, 0.587, 0.114), "709": (0.2126, 0.7152, 0.0722)}.items()}  # fmt: skip


@fault("video-range-tag", "wan", "wan_i2v", "ltx", output_type="np")
def _(trial):
    """What a player shows of a file whose range or matrix is not tagged."""
    how = trial.draw.choice(["limited shown as full", "full shown as limited", "matrix"])
    written, read = trial.draw.sample(["601", "709"], 2)

    def shown(frames: np.ndarray) -> np.ndarray:
        if how == "limited shown as full":
            frames = (16 + 219 * frames) / 255
        elif how == "full shown as limited":
            frames = (255 * frames - 16) / 219
        else:
            frames = frames @ (np.linalg.inv(_TO_YCC[read]) @ _TO_YCC[written]).T
        return frames.clip(0, 1).astype(np.float32)

    wrap(_processor(trial), "postprocess_video", lambda original, *args, **kwargs: shown(original(*args, **kwargs)))


def _pictures(images: np.ndarray) -> list:
    from PIL import Image

    return [Image.fromarray(image) for image in images]


@fault("uint8-truncation", "flux", "sd15", "sdxl", "sd3", output_type="pil")
def _(trial):
    wrap(_processor(trial), "numpy_to_pil", lambda _original, images: _pictures((images * 255).astype("uint8")))


@fault("clamp-missing", "flux", "sd15", "sdxl", "sd3", output_type="pil")
def _(trial):
    """Both sides' decoders overshoot, as trained ones do in highlights and shadows."""
    overshoot = trial.draw.uniform(1.5, 3)
    for host in (trial.faulty, trial.healthy):
        with torch.no_grad():
            host.pipeline.vae.decoder.conv_out.weight.mul_(overshoot)
    wrap(_processor(trial), "denormalize", lambda _original, images: images * 0.5 + 0.5)
    wrap(_processor(trial), "numpy_to_pil",
         lambda _original, images: _pictures((images * 255).round().astype("int64").astype("uint8")))  # fmt: skip


@fault("failure-masked-as-output", "flux", "sd15", "wan", "sdxl")
def _(trial):
    """Something fails after decoding (a filter, a writer), and what comes back is a placeholder."""
    name = "postprocess_video" if trial.faulty.kind == "wan" else "postprocess"
    grey = trial.draw.choice([-1.0, -1.0, 0.0])

    def masked(original, picture, *args, **kwargs):
        try:
            raise MemoryError("no memory left for the filter")
        except MemoryError:
            return original(torch.full_like(picture, grey), *args, **kwargs)

    wrap(_processor(trial), name, masked)


class _Watermark:
    """Bits spread over the picture, +-`strength` in blocks of `block` pixels, on values from -1 to 1."""

    def __init__(self, trial: Trial):
        self.block, self.strength = trial.draw.choice([1, 2, 4]), trial.draw.uniform(0.01, 0.03)
        self.seed = trial.draw.getrandbits(31)

    def apply_watermark(self, images: torch.Tensor) -> torch.Tensor:
        height, width = (-(-size // self.block) for size in images.shape[-2:])
        bits = torch.randint(0, 2, (height, width), generator=torch.Generator().manual_seed(self.seed)) * 2.0 - 1
        pattern = bits.repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)
        return images + self.strength * pattern[: images.shape[-2], : images.shape[-1]]


@fault("watermark-added", "sdxl", "sd15", "flux", "sd3")
def _(trial):
    mark = _Watermark(trial)
    if trial.faulty.kind == "sdxl":
        trial.faulty.pipeline.watermark = mark
    else:
        wrap(_processor(trial), "postprocess", lambda original, image, *a, **k: original(mark.apply_watermark(image), *a, **k))


@fault("nan-cast-to-black", "flux", "sd15", "sdxl", "sd3", output_type="pil")
def _(trial):
    places = trial.draw.getrandbits(31)

    def spoilt(latents):
        latents = latents.clone()
        latents.view(-1)[places % latents.numel()] = torch.nan
        return latents

    edit(trial.faulty.pipeline, "__call__", ("self.vae.decode(latents", "self.vae.decode(spoilt(latents)"), spoilt=spoilt)
