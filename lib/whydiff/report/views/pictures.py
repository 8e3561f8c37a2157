"""Pictures of tensors: images, latents, noise, tokens."""

from __future__ import annotations

import numpy as np

REFERENCE, CANDIDATE = "#1b5e8c", "#c2571a"  # dark and light enough to differ in grey as well


def pictures(axes, image: dict, amplify: float = 1.0):
    """Reference, candidate and their difference on three axes; `image`: (B, [F,] H, W, C) in [0, 1] by role."""
    frames = {role: None if value is None else first_frame(value) for role, value in image.items()}
    for ax, (role, frame) in zip(axes, frames.items(), strict=False):
        blank(ax, role)
        if frame is None:
            ax.text(0.5, 0.5, "no picture recorded", ha="center", va="center", transform=ax.transAxes)
        else:
            ax.imshow(frame, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
            ax.set_xlabel(f"{frame.shape[1]} px wide, {frame.shape[0]} px high")
    blank(axes[2], "difference" if amplify == 1 else f"difference × {amplify:g}")
    a, b = frames.get("reference"), frames.get("candidate")
    if a is None or b is None or a.shape != b.shape:
        axes[2].text(0.5, 0.5, "sizes differ:\nno difference by pixel", ha="center", va="center", transform=axes[2].transAxes)
    else:
        difference = amplify * (b.astype(float) - a.astype(float)).mean(axis=-1)
        shown = axes[2].imshow(difference, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes[2].figure.colorbar(shown, ax=axes[2], fraction=0.046, pad=0.04, label="candidate − reference")
    return axes


def first_frame(image) -> np.ndarray:
    """(H, W, C) of the first picture, of a video its middle frame."""
    picture = np.asarray(image[0])
    return picture[len(picture) // 2] if picture.ndim == 4 else picture


def blank(ax, title: str):
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def plain(text) -> str:
    """A name out of a trace for matplotlib, which takes what stands between two dollars for a formula."""
    return str(text).replace("$", r"\$")


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


def noise_pair(axes, reference, candidate):
    """Histogram of both draws on the first axes, one against the other on the second; both flat arrays of equal length."""
    if reference is None or candidate is None:
        for ax in axes:
            blank(ax, "No pair of draws with as many values was recorded")
        return axes
    bins = np.linspace(-4, 4, 41)
    axes[0].hist(reference, bins, density=True, histtype="stepfilled", alpha=0.35, color=REFERENCE, label="reference")
    axes[0].hist(
        candidate, bins, density=True, histtype="step", linestyle="--", linewidth=1.6, color=CANDIDATE, label="candidate"
    )
    axes[0].plot(
        bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1, linestyle=":", label="standard normal"
    )
    axes[0].set(xlabel="value of the initial noise", ylabel="density", title="Equal histograms do not mean equal noise")
    legend(axes[0], frameon=False, fontsize="small")
    axes[1].scatter(reference, candidate, s=8, facecolors="none", edgecolors=CANDIDATE, linewidths=0.7)
    axes[1].plot([-4, 4], [-4, 4], color="black", linewidth=1, linestyle=":")
    axes[1].set(
        xlim=(-4, 4),
        ylim=(-4, 4),
        aspect="equal",
        xlabel="reference's value",
        ylabel="candidate's value",
        title="One draw lies on the diagonal, two make a cloud",
    )
    return axes


def token_differences(ax, tokens: dict, labels: dict | None = None):
    """Heat map of relative differences: a row for each embedding, a column for each token. `tokens`: {probe: [difference]}."""
    rows = {probe: values for probe, values in tokens.items() if len(values) > 1} or dict(tokens)
    if not rows:
        blank(ax, "No prompt embeddings were recorded on both sides")
        return ax
    width = max(len(values) for values in rows.values())
    table = np.full((len(rows), width), np.nan)
    for i, values in enumerate(rows.values()):
        table[i, : len(values)] = values
    largest = np.nanmax(table)
    # Rounding of float32 stays white: a scale that ends at 1e-7 would show noise as if it were a difference.
    shown = ax.imshow(table, cmap="Greys", vmin=0, vmax=max(largest, 1e-5), aspect="auto", interpolation="nearest")
    ax.set_yticks(range(len(rows)), rows)
    names = next((names for names in reversed(list((labels or {}).values())) if len(names) == width), None)
    ax.set_xticks(
        range(width), names or range(width), rotation=60 if names else 0, ha="right" if names else "center", fontsize="small"
    )
    for i, j in zip(*np.nonzero(np.isfinite(table)), strict=True):
        shade = "white" if table[i, j] > 0.6 * max(largest, 1e-5) else "black"
        if width <= 24:
            ax.text(j, i, _short(table[i, j]), ha="center", va="center", fontsize=7, color=shade)
    ax.set_xlabel("token")
    ax.set_title("How far each token's embedding is from the reference's")
    ax.figure.colorbar(shown, ax=ax, label="relative L2 difference", shrink=0.9)
    return ax


def _short(value: float) -> str:
    """A number that fits a small square: 0, .93, 3e-7."""
    return "0" if value == 0 else f"{value:.2f}".lstrip("0") if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")


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
                shown = ax.imshow(value[i], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
                ax.set_title(f"{role}, channel {i}", fontsize="medium")
            elif i == 0:
                ax.set_title(f"{role}: none recorded", fontsize="medium")
    if known:
        axes[0][0].figure.colorbar(shown, ax=[ax for row in axes for ax in row], label="value the decoder receives", shrink=0.85)
    return axes
