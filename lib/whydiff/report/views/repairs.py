"""Before and after a repair: how far every probe was from the reference's, and how far it is with a cause undone."""

from __future__ import annotations

import math
import textwrap

from whydiff.evidence.floor import STANDS_OUT
from whydiff.report.views.colours import CANDIDATE, REFERENCE, plain
from whydiff.report.views.pictures import blank, first_frame

EQUAL, OTHER = 1e-2, 1e10  # floors at which what is equal, and what has no number (another shape, not finite), is drawn


def before_after(ax, changes, undone: str = "the cause", limit: float = STANDS_OUT):
    """A line for each probe, in walking order, from its difference as it runs (square) to that with `undone` repaired (dot).

    `changes`: (probe, difference over floor before, after or None where the reference's values were put in) in walking order;
    infinity where shapes differ or values are not finite. `limit`: floors from which a difference stands out.
    """
    changes = list(changes)
    if not changes:
        blank(ax, "No run with a repair was made")
        return ax
    places = range(len(changes))
    before, after = [_at(entry[1]) for entry in changes], [None if entry[2] is None else _at(entry[2]) for entry in changes]
    for y, start, end in zip(places, before, after):
        if end is not None:
            ax.plot((start, end), (y, y), color="grey", linewidth=1.2, zorder=1)
    ax.plot(before, places, linestyle="none", marker="s", markersize=6, markerfacecolor="none", color=CANDIDATE, label="as it runs")
    known = [(x, y) for x, y in zip(after, places) if x is not None]
    if known:
        ax.plot(*zip(*known), linestyle="none", marker="o", markersize=5, color=REFERENCE, label=f"with {plain(undone)} undone")
    put = [(x, y) for x, y, entry in zip(before, places, changes) if entry[2] is None]
    if put:
        ax.plot(*zip(*put), linestyle="none", marker="x", markersize=8, color="black", label="repaired right here")
    ax.axvspan(EQUAL / 3, limit, color="grey", alpha=0.18, linewidth=0)
    ax.annotate("within noise", (limit, 1.0), (-4, -3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="right",
                va="top", fontsize="small")  # fmt: skip
    ax.set_xscale("log")
    ax.set(xlim=(EQUAL / 3, max(1e3, *before) * 5), xlabel=f"difference in noise floors (equal: drawn at {EQUAL:g})")
    ax.set_title(f"Before and after: {plain(undone)} undone")
    ax.set_yticks(places, [plain(entry[0]) for entry in changes])
    ax.set_ylim(len(changes) - 0.5, -1.2)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -1.6 / max(len(changes), 4)), ncols=3, fontsize="small")
    return ax


def _at(floors: float) -> float:
    return OTHER if not math.isfinite(floors) else min(max(floors, EQUAL), OTHER)


def repaired_pictures(axes, shown):
    """Pictures side by side, from the candidate's as it is over each repair to the reference's. `shown`: (title, words below or "",
    (B, [F,] H, W, C) in [0, 1] or None); spare axes stay empty, and with too few the last repairs before the end are left out."""
    shown = shown if len(shown) <= len(axes) else [*shown[: len(axes) - 2], *shown[-2:]]
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, (title, words, picture) in zip(axes, shown):
        blank(ax, "\n".join(textwrap.wrap(plain(title), 22)))
        if picture is not None:
            ax.imshow(first_frame(picture), vmin=0, vmax=1, cmap="gray", interpolation="nearest")
        ax.set_xlabel(plain(words))
    return axes
