"""The picture that a pipeline is conditioned on: its range, how it was brought to size, and what its mask means."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from whydiff.causes.finding import Explanation, Finding, explained_share, same_parameter
from whydiff.causes.fits import affine
from whydiff.measure.compare import relative_l2

# Resizing filters of libraries differ by about this much on photographs; a crop against a stretch by ten times as much.
SAME_PICTURE = 0.12
FILTERS = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


def explain_range(finding: Finding, lab) -> list[Explanation]:
    """`vae-input-range`: [0, 1] on one side, [-1, 1] on the other."""
    if finding.place not in finding.candidate:
        return []
    for a, b in finding.pairs:
        filled = (a != 0) | (b != 0)  # frames of a clip that are not given are zero in either range
        fit = affine(a[filled], b[filled], channels=False) if filled.any() else None
        if fit is None:
            return []
        scale, offset = fit.scale.item(), fit.offset.item()
        half, double = same_parameter(scale, 0.5) and same_parameter(offset, 0.5), same_parameter(scale, 2) and same_parameter(offset, -1)
        if not half and not double:
            return []
    ranges = ("[0, 1]", "[-1, 1]") if half else ("[-1, 1]", "[0, 1]")
    a, b = finding.pairs[0]
    undone = torch.where((a != 0) | (b != 0), (b.double() - offset) / scale, 0.0)
    return [Explanation(
        id="vae-input-range", stage="latent_handling", departs="candidate" if half else "reference",
        statement=f"candidate's encoder receives a picture in {ranges[0]}, the reference's in {ranges[1]}",
        relation={"kind": "range", "scale": scale, "offset": offset}, explained=explained_share(a.double(), b.double(), undone),
        experiment=f"mapped the reference's picture to {ranges[0]}: equals the candidate's",
        fix="hand the encoder 2 · picture - 1 of a picture in [0, 1], once")]  # fmt: skip


def explain_mask(finding: Finding, lab) -> list[Explanation]:
    """1 - mask: what one side paints, the other keeps."""
    if finding.place not in finding.candidate or not all(lab.closes(finding, b, 1 - a.to(b.dtype)) for a, b in finding.pairs):
        return []
    return [Explanation(
        id="mask-inverted", stage="latent_handling", departs="unknown", explained=1.0,
        statement="candidate's mask is 1 minus the reference's: what one side paints anew, the other keeps",
        relation={"kind": "inverted"}, experiment="inverted the reference's mask: equals the candidate's",
        fix="use one meaning of the mask on both sides (1 = paint anew)")]  # fmt: skip


def explain_geometry(finding: Finding, lab) -> list[Explanation]:
    """`center-crop-vs-stretch`: from the picture of the call, or by a zoom about the middle that turns one into the other."""
    if finding.place not in finding.candidate:
        return []
    mine, theirs = (still(t) for t in finding.pairs[0])
    if mine is None or theirs is None:
        return []
    whole = relative_l2(theirs, mine)
    picture = next((p for role in ("candidate", "reference") if (p := called_with(lab, role)) is not None), None)
    ways = {role: None if picture is None else _way(picture, t) for role, t in (("reference", mine), ("candidate", theirs))}
    if None not in ways.values() and ways["reference"][0] != ways["candidate"][0]:
        left = max(residual for _, residual in ways.values())
        words = {role: way for role, (way, _) in ways.items()}
        return _geometry(f"candidate's picture was {words['candidate']} to size, the reference's {words['reference']}",
                         {"kind": "geometry"} | words, 1 - (left / whole) ** 2,
                         f"brought the picture of the call to size in each way: each side's is that one, but for {left:.2g} (relative L2)")
    zoom = _zoom(mine, theirs, whole)
    if zoom is None:
        return []
    (height, width), left = zoom
    return _geometry(f"candidate's picture shows another part: the reference's, zoomed by {height:.3g} in height and {width:.3g} in width "
                     "about the middle", {"kind": "geometry", "zoom": [height, width]}, 1 - (left / whole) ** 2,
                     f"zoomed the reference's picture about its middle: that is the candidate's, but for {left:.2g} (relative L2)")


def _geometry(statement: str, relation: dict, explained: float, experiment: str) -> list[Explanation]:
    if explained < 0.9:
        return []
    return [Explanation(id="center-crop-vs-stretch", stage="post_processing", statement=statement, relation=relation, explained=explained,
                        experiment=experiment, departs="unknown",
                        fix="bring the picture to size in the same way on both sides: crop, stretch, or pad")]  # fmt: skip


def still(picture: Tensor) -> Tensor | None:
    """(1, C, H, W) in [0, 1] of what an encoder receives: of a clip its first frame."""
    picture = picture.float()
    if picture.ndim == 5:
        picture = picture[:, :, 0]
    if picture.ndim != 4 or picture.shape[1] not in (1, 3):
        return None
    return ((picture + 1) / 2 if bool((picture < -0.01).any()) else picture)[:1]


def called_with(lab, role: str) -> Tensor | None:
    """The picture in a side's call, (1, C, H, W) in [0, 1]."""
    from whydiff.measure.pictures import NotAPicture, to_image

    live = getattr(lab.case, role).live
    for key in ("image", "init_image", "control_image", "input_image") if live else ():
        value = live.call.get(key)
        if value is not None and not isinstance(value, str):
            try:
                return to_image(value)[0].movedim(-1, 1)[:1]
            except (NotAPicture, TypeError, ValueError, AttributeError):
                return None
    return None


def _way(picture: Tensor, made: Tensor) -> tuple[str, float] | None:
    """How the picture became what the encoder received, and what is left: the usual way that is near while the next is not."""
    if picture.shape[1] != made.shape[1]:
        return None
    apart: dict[str, float] = {}
    for resample in FILTERS:
        for words, way in ways_to_size(picture, made.shape[-2:], resample).items():
            apart[words] = min(apart.get(words, math.inf), relative_l2(made, way))
    ranked = sorted(apart.items(), key=lambda entry: entry[1])
    near = len(ranked) > 1 and ranked[0][1] <= SAME_PICTURE and 2 * ranked[0][1] <= ranked[1][1]
    return ranked[0] if near else None


def ways_to_size(picture: Tensor, size, resample=Image.Resampling.LANCZOS) -> dict[str, Tensor]:
    """The picture (1, C, h, w) in [0, 1] stretched, cropped in the middle, or padded to (height, width), by Pillow."""
    height, width = size
    h, w = picture.shape[-2:]
    cover, fit = max(height / h, width / w), min(height / h, width / w)
    large, small = (_resize(picture, (max(1, round(h * f)), max(1, round(w * f))), resample) for f in (cover, fit))
    top, left = (large.shape[-2] - height) // 2, (large.shape[-1] - width) // 2
    cropped = large[..., top : top + height, left : left + width]
    pad_h, pad_w = height - small.shape[-2], width - small.shape[-1]
    padded = functional.pad(small, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
    ways = {"stretched": _resize(picture, (height, width), resample), "cropped": cropped, "padded": padded}
    return {words: way for words, way in ways.items() if tuple(way.shape[-2:]) == (height, width)}


def _resize(picture: Tensor, size, resample=Image.Resampling.BICUBIC) -> Tensor:
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    height, width = size
    planes = [Image.fromarray((plane * 255).round().clamp(0, 255).to(torch.uint8).numpy()).resize((width, height), resample)
              for plane in picture[0]]  # fmt: skip
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])[None].float() / 255


def _zoom(a: Tensor, b: Tensor, whole: float) -> tuple[tuple[float, float], float] | None:
    """Zoom (height, width) about the middle that turns a into b, or b into a (then below 1); None where none does."""
    best = (whole, None)
    steps = [1 + 0.02 * i for i in range(51)]
    for source, target, inverse in ((a, b, False), (b, a, True)):
        for vertical in (False, True):
            for zoom in steps[1:]:
                h, w = source.shape[-2:]
                part = (round(h / zoom), w) if vertical else (h, round(w / zoom))
                top, left = (h - part[0]) // 2, (w - part[1]) // 2
                cut = source[..., top : top + part[0], left : left + part[1]]
                left_over = relative_l2(target, _resize(cut, (h, w)))
                if left_over < best[0]:
                    factor = 1 / zoom if inverse else zoom
                    best = (left_over, (factor, 1.0) if vertical else (1.0, factor))
    # A zoom that explains nine tenths of the squared difference is no accident of two unrelated pictures.
    return (best[1], best[0]) if best[1] is not None and best[0] <= SAME_PICTURE and best[0] <= 0.32 * whole else None


def explain(finding: Finding, lab) -> list[Explanation]:
    """Range, then geometry."""
    return explain_range(finding, lab) or explain_geometry(finding, lab)
