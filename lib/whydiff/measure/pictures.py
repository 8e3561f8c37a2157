"""How far one picture is from another, for a viewer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.measure.compare import compare
from whydiff.measure.tensors import as_tensor

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


class NotAPicture(Trouble, ValueError):
    """Raised where something has no axis of 1, 3 or 4 channels, so it cannot be shown."""


@dataclass(frozen=True)
class PictureComparison:
    """How visible a difference is. Both pictures (B, H, W, C) or (B, F, H, W, C) in [0, 1] and of one shape."""

    ssim: float  # structural similarity, mean over pictures; 1 equal
    flip: float  # mean FLIP error as seen at 67 pixels per degree; 0 equal, 1 worst
    psnr: float  # dB at data range 1; inf where equal
    flip_map: Tensor  # (B·F, H, W) FLIP error per pixel

    def to_dict(self) -> dict:
        """JSON-safe figures, 3 significant digits; an infinite PSNR is None."""
        psnr = float(f"{self.psnr:.3g}") if math.isfinite(self.psnr) else None
        return {"ssim": float(f"{self.ssim:.3g}"), "flip": float(f"{self.flip:.3g}"), "psnr": psnr}

    def __str__(self) -> str:
        return f"SSIM {self.ssim:.3g} (1 = equal), FLIP {self.flip:.3g} (0 = equal), PSNR {self.psnr:.3g} dB"


def compare_pictures(reference: Tensor, candidate: Tensor) -> PictureComparison:
    """SSIM, FLIP and PSNR of two pictures as `to_image` returns them. Raises Trouble when the shapes differ."""
    error, error_map = flip(reference, candidate)
    return PictureComparison(ssim(reference, candidate), error, psnr(reference, candidate), error_map)


def signed_difference(reference: Tensor, candidate: Tensor) -> Tensor:
    """candidate − reference in the channel that is furthest apart: (..., H, W, C) -> (..., H, W).

    A mean over channels would call red and blue exchanged no difference; here 0 means that all channels are equal.
    """
    _same_shape(reference, candidate)
    apart = candidate.double() - reference.double()
    return apart.gather(-1, apart.abs().argmax(-1, keepdim=True)).squeeze(-1)


def psnr(reference: Tensor, candidate: Tensor) -> float:
    """-10 log10 mean|a - b|² in dB, for values in [0, 1]; inf where the pictures are equal."""
    _same_shape(reference, candidate)
    return compare(reference, candidate, data_range=1.0).psnr


def ssim(reference: Tensor, candidate: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), mean over all pictures; window 7, or the largest odd one that fits."""
    from skimage.metrics import structural_similarity

    _same_shape(reference, candidate)
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(_flat(reference), _flat(candidate), strict=True)]
    side = min(7, *reference.shape[-3:-1])
    window = side - 1 + side % 2
    if window < 3:
        raise Trouble(f"SSIM needs pictures of at least 3 by 3 pixels, got {list(reference.shape[-3:-1])}.")
    values = [structural_similarity(a, b, win_size=window, channel_axis=-1, data_range=1.0) for a, b in pairs]
    return float(sum(values) / len(values))


def flip(reference: Tensor, candidate: Tensor) -> tuple[float, Tensor]:
    """Mean FLIP error and its map (B·F, H, W) in [0, 1] (Andersson et al. 2020), at 67 pixels per degree, sRGB."""
    import flip_evaluator
    import numpy as np

    _same_shape(reference, candidate)
    maps = []
    for a, b in zip(_flat(reference), _flat(candidate), strict=True):
        a, b = (np.ascontiguousarray(x[..., :3].expand(*x.shape[:2], 3).numpy()) for x in (a, b))
        error_map, _, _ = flip_evaluator.evaluate(a, b, "LDR", applyMagma=False)
        maps.append(torch.from_numpy(np.asarray(error_map, dtype=np.float32).reshape(a.shape[:2])))
    stacked = torch.stack(maps)
    return float(stacked.double().mean()), stacked


def round_to_8_bit(image: Tensor) -> Tensor:
    """Float32 in [0, 1] rounded to the nearest of 256 levels, ties to even, as diffusers' numpy_to_pil does."""
    return (image.clamp(0, 1) * 255).round() / 255


def to_image(output, video: bool = False) -> tuple[Tensor, int | None]:
    """What a user gets from a pipeline -> ((B, H, W, C) or (B, F, H, W, C) float32 in [0, 1], 8 or None).

    Accepts a pipeline output (`.images`, `.frames`, `.sample`, a dict or tuple of one), PIL pictures, arrays, tensors
    and lists of those; ``video`` says that the first axis of a 4-d value counts frames. The second value is 8 where
    the pixels were bytes. Torch tensors are read channels first, arrays channels last, unless only the other reading
    has 1, 3 or 4 channels. Floats below 0 are taken as [-1, 1], floats above 2 as [0, 255]; what is still outside
    [0, 1] is clamped, NaN stays NaN. Raises NotAPicture (a Trouble and a ValueError) otherwise.
    """
    for name in ("images", "frames", "videos", "sample"):
        inner = output.get(name) if isinstance(output, dict) else getattr(output, name, None)
        if inner is not None and not callable(inner):
            return to_image(inner, video=name in ("frames", "videos"))
    if isinstance(output, (list, tuple)):
        return _from_list(output, video)
    if hasattr(output, "convert"):  # PIL: palettes and exotic modes become RGB
        import numpy as np

        output = np.asarray(output if output.mode in ("L", "RGB", "RGBA") else output.convert("RGB"))
        output = output[..., None] if output.ndim == 2 else output
    try:
        pixels = as_tensor(output, "image")
    except Trouble as error:
        raise NotAPicture(str(error)) from None
    pixels = _channels_last(pixels, channels_first=isinstance(output, Tensor))
    if video and pixels.ndim == 4:
        pixels = pixels[None]
    return _to_unit_range(pixels if pixels.ndim > 3 else pixels[None])


def _from_list(items, video: bool) -> tuple[Tensor, int | None]:
    if not items:
        raise NotAPicture("the output is an empty list, which holds no picture.")
    if len(items) == 1 and not hasattr(items[0], "convert"):
        return to_image(items[0], video)
    nested = isinstance(items[0], (list, tuple))
    parts = [to_image(item, video and nested) for item in items]
    if len({image.shape for image, _ in parts}) > 1:
        raise NotAPicture(f"the {len(parts)} pictures of one output have different shapes, "
                          f"{[list(image.shape) for image, _ in parts[:2]]}, ...")
    images = torch.cat([image for image, _ in parts])
    if nested and not video:  # a list of lists of pictures is a batch of videos, whatever held it
        images = images.unflatten(0, (len(items), -1))
    return (images[None] if video and not nested else images), parts[0][1]


def _channels_last(x: Tensor, channels_first: bool) -> Tensor:
    if x.ndim == 2:
        return x[..., None]
    if not 3 <= x.ndim <= 5 or x.is_complex():
        raise NotAPicture(f"a tensor of shape {list(x.shape)} is not a picture: expected 2 to 5 axes.")
    first = [axis for axis in (-3, 1 if x.ndim == 5 else -3) if x.shape[axis] in CHANNELS]
    last = x.shape[-1] in CHANNELS
    if first and (channels_first or not last):
        return x.movedim(first[0], -1)
    if last:
        return x
    raise NotAPicture(f"a tensor of shape {list(x.shape)} is not a picture: no axis of 1, 3 or 4 channels.")


def _to_unit_range(x: Tensor) -> tuple[Tensor, int | None]:
    if x.dtype == torch.uint8:
        return x.to("cpu", torch.float32) / 255, 8
    # float64 so that mapping a range rounds once
    x = x.to("cpu", torch.float64)
    finite = x[torch.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    bits = None
    if low >= 0 and high > 2:
        bits = 8 if bool((finite == finite.round()).all()) else None
        x = x / 255
    elif low < -0.5 / 255:  # less is an overshoot of [0, 1] that no 8-bit picture would show
        x = (x + 1) / 2
    return x.clamp(0, 1).to(torch.float32).contiguous(), bits


def _flat(x: Tensor) -> Tensor:
    return x.to("cpu", torch.float32).reshape(-1, *x.shape[-3:])


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim not in (4, 5):
        raise Trouble(f"pictures must have one shape (B, H, W, C) or (B, F, H, W, C): "
                      f"reference {list(a.shape)}, candidate {list(b.shape)}.")
