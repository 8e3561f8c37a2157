"""Pictures of video made frame by frame: where differences begin, what layers remember, what a disturbed frame moves."""

from __future__ import annotations

import numpy as np

from whydiff.report.views.colours import CANDIDATE, REFERENCE
from whydiff.report.views.curves import below

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")


def fingerprints(ax, series: dict):
    """Rows of switches, columns of frames, dark where a frame differs by more. `series`: FrameDifference lists by name.

    What does not stand out from noise is left white; a cross marks the first frame that does.
    """
    names = list(series)
    frames = max(len(entries) for entries in series.values())
    grid = np.full((len(names), frames), np.nan)
    for i, name in enumerate(names):
        for entry in series[name]:
            if entry.stands_out:
                grid[i, entry.frame] = np.log10(entry.difference) if entry.difference else 0.0
        first = next((entry.frame for entry in series[name] if entry.stands_out), None)
        if first is None:
            ax.annotate("never", ((frames - 1) / 2, i), ha="center", va="center", fontsize="small", color="dimgrey")
        else:
            dark = grid[i, first] > -1.4
            ax.plot(first, i, marker="x", color="white" if dark else "black", markersize=7, markeredgewidth=2)
    shown = ax.imshow(grid, cmap="Blues", aspect="auto", vmin=-4, vmax=0)
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks(range(0, frames, max(1, frames // 10)))
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", axis="y", color="lightgrey", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.set(xlabel="frame (counted from 0)", title="Each difference alone: the cross is the first frame that differs")
    bar = ax.figure.colorbar(shown, ax=ax, ticks=range(-4, 1), label="relative L2 difference of the frame")
    bar.ax.set_yticklabels([f"1e{k}" if k else "1" for k in range(-4, 1)])
    return ax


def seen_frames(axes, policies: dict, frames: int):
    """One panel for each policy: the frames (across) that are seen while a frame (down) is made. `policies`: Window by title."""
    for ax, (title, window) in zip(axes, policies.items(), strict=True):
        grid = np.zeros((frames, frames))
        for frame in range(frames):
            grid[frame, list(window.seen(frame))] = 1
        ax.imshow(grid, cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        ax.set(title=title, xlabel="frame seen")
    axes[0].set_ylabel("frame being made")
    return axes


def visible_counts(ax, policies: dict, frames: int):
    """How many frames each policy sees, itself included, over the frames of a video. `policies`: Window by title."""
    for i, (title, window) in enumerate(policies.items()):
        ax.plot(range(frames), [len(window.seen(t)) for t in range(frames)], linestyle=LINES[i % 4], label=title,
                color=f"C{i}", linewidth=1.8)  # fmt: skip
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="frame being made", ylabel="frames seen, itself included", title="What a layer sees when it makes a frame")
    below(ax, 0.2)
    return ax


def by_frame(ax, values: dict, label: str, title: str, log: bool = True, lowest: float = 1e-8):
    """One line for each entry of `values` over the frames. With `log`, zero is drawn at `lowest`, and said so on the axis."""
    for i, (name, series) in enumerate(values.items()):
        points = [max(v, lowest) if log else v for v in series]
        ax.plot(range(len(points)), points, marker=MARKS[i % len(MARKS)], markersize=5, markerfacecolor="none",
                linestyle=LINES[i % 4], label=name, color=f"C{i}")  # fmt: skip
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="frame (counted from 0)", ylabel=label + (f"\n(0 drawn at {lowest:g})" if log else ""), title=title)
    below(ax, 0.2)
    return ax


def kept_detail(ax, kept: dict):
    """Bars of the amplitude that survives, by list of noise levels. `kept`: {list: {detail: share}}."""
    details = list(next(iter(kept.values())))
    width = 0.8 / len(kept)
    hatches, colours = ("", "//", "..", "xx"), (REFERENCE, CANDIDATE, "#7a7a7a", "#4f7f4f")
    for i, (name, shares) in enumerate(kept.items()):
        x = np.arange(len(details)) + (i - (len(kept) - 1) / 2) * width
        ax.bar(x, [shares[d] for d in details], width * 0.9, label=name, facecolor=colours[i % 4], hatch=hatches[i % 4], alpha=0.85)
    ax.axhline(1, color="black", linewidth=1, linestyle=":")
    ax.set_xticks(range(len(details)), [f"{d:g}" for d in details])
    ax.set(xlabel="standard deviation of the detail (1 = that of the noise)", ylabel="share of its amplitude kept (1 = no blur)",
           title="An ideal network, Euler's method: what each list lets through")  # fmt: skip
    below(ax, 0.2)
    return ax
