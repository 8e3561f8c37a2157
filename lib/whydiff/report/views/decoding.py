"""What the decoder receives, and what it loses by itself."""

from __future__ import annotations

import numpy as np

from whydiff.report.views.colours import SIZE
from whydiff.report.views.pictures import blank, first_frame, flip_map, picture_difference


def latent_channels(axes, latents: dict, channels: int = 4):
    """What the decoder receives, the first channels side by side: reference in the upper row, candidate in the lower.

    `axes`: (2, channels); `latents`: (C, H, W) by role. Both rows share one scale.
    """
    known = [value[:channels] for value in latents.values() if value is not None]
    limit = max((float(np.abs(value).max()) for value in known), default=1.0) or 1.0
    for row, (role, value) in zip(axes, latents.items(), strict=False):
        for i, ax in enumerate(row):
            blank(ax, "")
            if value is not None and i < len(value):
                shown = ax.imshow(value[i], cmap=SIZE, vmin=-limit, vmax=limit, interpolation="nearest")
                ax.set_title(f"{role}, channel {i}", fontsize="medium")
            elif i == 0:
                ax.set_title(f"{role}: none recorded", fontsize="medium")
    if known:
        axes[0][0].figure.colorbar(shown, ax=[ax for row in axes for ax in row], label="value the decoder receives", shrink=0.85)
    return axes


def round_trip(axes, trip: dict):
    """The reference's picture, the same encoded and decoded once more, their difference and what is seen of it, on four axes.

    `trip`: {"before": (B, H, W, C) in [0, 1], "after": the same, "psnr": dB, "vae": whose VAE}; empty where no VAE could be asked.
    """
    if not trip:
        for ax in axes:
            ax.set_axis_off()
        blank(axes[0], "No live VAE to encode and decode with")
        return axes
    before, after = first_frame(trip["before"]), first_frame(trip["after"])
    for ax, frame, title in ((axes[0], before, "reference's picture"), (axes[1], after, "encoded and decoded again")):
        blank(ax, title)
        ax.imshow(frame, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    apart = f"PSNR {trip['psnr']:.1f} dB" if trip.get("psnr") is not None else "equal"
    axes[1].set_xlabel(f"by the {trip['vae']}'s VAE: {apart}")
    picture_difference(axes[2], before, after)
    flip_map(axes[3], before, after)
    return axes
