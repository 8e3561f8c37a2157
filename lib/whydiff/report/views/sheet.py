"""Many cases on one page."""

from __future__ import annotations

import textwrap

from whydiff.report.views.colours import plain
from whydiff.report.views.pictures import blank, first_frame

SIGNS = {"same": "=", "within_noise": "≈", "precision": "≈", "different": "≠", "incomparable": "·", "vacuous": "·"}


def contact_sheet(figure, items, columns: int = 4, width: int = 36):
    """A square for each case in rows of `columns`: both pictures side by side under the case's name, its verdict below, a thick
    frame where the sides differ. Returns the axes, a list in the order of `items`.

    `items`: dicts with `title` and `verdict` (one of six words), and as far as known `words` (such as the ids of the causes),
    `reference` and `candidate`, (B, [F,] H, W, C) pictures in [0, 1].
    """
    items = list(items)
    rows = max(1, -(-len(items) // columns))
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in grid[len(items) :]:
        ax.set_axis_off()
    if not items:
        blank(grid[0], "No cases")
    for ax, item in zip(grid, items):
        _square(ax, item, width)
    return grid[: len(items)]


def _square(ax, item: dict, width: int) -> None:
    apart = item["verdict"] == "different"
    blank(ax, "")
    ax.set_title(_lines(item["title"], width, 2), fontsize="small", fontweight="bold")
    pair = [None if item.get(role) is None else first_frame(item[role]) for role in ("reference", "candidate")]
    tallest = max((frame.shape[0] / frame.shape[1] for frame in pair if frame is not None), default=0.75)
    high = 0.97 * min(1.0, tallest)  # of a square of 1
    for i, (frame, name) in enumerate(zip(pair, ("reference", "candidate"), strict=True)):
        if frame is None:
            ax.text(i + 0.5, high / 2, "no picture", ha="center", va="center", fontsize="small")
        else:
            shape = frame.shape[0] / frame.shape[1]
            tall = min(high, 0.97 * shape)
            wide, low = tall / shape, (high - tall) / 2
            ax.imshow(frame, extent=(i + 0.5 - wide / 2, i + 0.5 + wide / 2, low, low + tall), vmin=0, vmax=1, cmap="gray",
                      interpolation="nearest")  # fmt: skip
        ax.text(i + 0.5, -0.03, name, ha="center", va="top", fontsize="x-small")
    ax.set(xlim=(0, 2), ylim=(-0.16, high + 0.03), aspect="equal")
    for side in ax.spines.values():
        side.set(linewidth=2.5 if apart else 0.8, edgecolor="black" if apart else "grey")
    words = f"{SIGNS.get(item['verdict'], '?')} {item['verdict']}" + (f": {item['words']}" if item.get("words") else "")
    ax.set_xlabel(_lines(words, width + 6, 3), fontsize="small")


def _lines(text: str, width: int, most: int) -> str:
    """Text in at most so many lines; what does not fit ends in dots."""
    lines = textwrap.wrap(plain(text), width, break_on_hyphens=False)
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], textwrap.shorten(" ".join(lines[most - 1 :]), width, placeholder=" …")])
