"""Pictures of tensors: images, latents, noise, tokens."""

from __future__ import annotations

import numpy as np
import torch

from whydiff.measure.pictures import flip, signed_difference
from whydiff.report.views.colours import CANDIDATE, REFERENCE, signed_image, size_image


def pictures(axes, image: dict, amplify: float = 1.0):
    """Reference, candidate and their signed difference on three axes, and on a fourth, where there is one, what is seen of it
    (FLIP). `image`: (B, [F,] H, W, C) in [0, 1] by role; the scale of the difference ends at 1 / `amplify`."""
    frames = {role: None if value is None else first_frame(value) for role, value in image.items()}
    for ax, (role, frame) in zip(axes, frames.items(), strict=False):
        blank(ax, role)
        if frame is None:
            ax.text(0.5, 0.5, "no picture recorded", ha="center", va="center", transform=ax.transAxes)
        else:
            ax.imshow(frame, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
            ax.set_xlabel(f"{frame.shape[1]} px wide, {frame.shape[0]} px high")
    a, b = frames.get("reference"), frames.get("candidate")
    if a is not None and b is not None and a.shape == b.shape:
        picture_difference(axes[2], a, b, amplify)
        if len(axes) > 3:
            flip_map(axes[3], a, b)
        return axes
    for ax, title in zip(axes[2:], ("difference", "what is seen of it"), strict=False):
        blank(ax, title)
        ax.text(0.5, 0.5, "sizes differ:\nno difference by pixel", ha="center", va="center", transform=ax.transAxes)
    return axes


def picture_difference(ax, reference, candidate, amplify: float = 1.0):
    """candidate − reference by pixel, in the channel furthest apart. Both (H, W, C) in [0, 1]; the scale ends at 1 / `amplify`."""
    blank(ax, "difference" if amplify == 1 else f"difference × {amplify:g}")
    values = signed_difference(torch.as_tensor(reference)[None], torch.as_tensor(candidate)[None])[0].numpy()
    signed_image(ax, values, 1 / amplify, "candidate − reference")
    return ax


def flip_map(ax, reference, candidate):
    """What a viewer sees of the difference: the FLIP error of each pixel, 0 unseen to 1. Both (H, W, C) in [0, 1]."""
    mean, error = flip(torch.as_tensor(reference)[None], torch.as_tensor(candidate)[None])
    blank(ax, f"what is seen of it: FLIP {mean:.3g}")
    size_image(ax, error[0].numpy(), 1.0, "FLIP error (0 = unseen)")
    return ax


def first_frame(image) -> np.ndarray:
    """(H, W, C) of the first picture, of a video its middle frame."""
    picture = np.asarray(image[0])
    return picture[len(picture) // 2] if picture.ndim == 4 else picture


def blank(ax, title: str):
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def legend(ax, **where):
    """A legend, where anything was drawn that has a name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**where)


def sizes(ax, sizes: dict):
    """The outlines of both pictures on one grid of pixels; `sizes` holds (height, width) by role."""
    from matplotlib.patches import Rectangle

    known = {role: size for role, size in sizes.items() if None not in size}
    style = {
        "reference": {"edgecolor": REFERENCE, "linestyle": "-", "hatch": "//"},
        "candidate": {"edgecolor": CANDIDATE, "linestyle": "--", "hatch": "\\\\"},
    }
    for role, (height, width) in known.items():
        label = f"{role}: {height} high, {width} wide"
        ax.add_patch(Rectangle((0, 0), width, height, facecolor="none", linewidth=2, label=label, **style[role]))
    side = 1.1 * max([1, *(max(size) for size in known.values())])
    ax.set(
        xlim=(-0.05 * side, side),
        ylim=(-0.05 * side, side),
        aspect="equal",
        xlabel="width (pixels)",
        ylabel="height (pixels)",
        title="Outlines that coincide have one size and orientation",
    )
    legend(ax, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    return ax
