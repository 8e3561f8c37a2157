"""The prompt, token by token."""

from __future__ import annotations

import numpy as np

from whydiff.report.views.colours import ON_DARK, ON_LIGHT, plain
from whydiff.report.views.pictures import blank

ROUNDING = 1e-5  # a scale that ended at 1e-7 would show the rounding of float32 as if it were a difference
LEGIBLE = 32  # tokens beside each other whose figures and names can be read
HATCHES = ("////", "xxxx", "\\\\\\\\", "....")


def token_differences(ax, tokens: dict, labels: dict | None = None, marks: dict | None = None):
    """Heat map of relative differences: a row for each embedding, a column for each token. `tokens`: {probe: [difference]}.

    `labels`: {probe of the ids: tokens as text}; `marks`: {probe of the ids: {what holds: [whether, of each token]}}, such as
    padding or hidden by a mask: hatched rows under the heat map.
    """
    rows = {probe: values for probe, values in tokens.items() if len(values) > 1} or dict(tokens)
    if not rows:
        blank(ax, "No prompt embeddings were recorded on both sides")
        return ax
    width = max(len(values) for values in rows.values())
    table = np.full((len(rows), width), np.nan)
    for i, values in enumerate(rows.values()):
        table[i, : len(values)] = values
    limit = max(np.nanmax(table, initial=0.0, where=np.isfinite(table)), ROUNDING)
    shown = ax.imshow(table, cmap="cividis_r", vmin=0, vmax=limit, aspect="auto", interpolation="nearest")
    kept = _marks(ax, marks, width, len(rows))
    ax.set_yticks(range(len(rows) + len(kept)), [plain(name) for name in (*rows, *kept)])
    ax.set_ylim(len(rows) + len(kept) - 0.5, -0.5)
    names = next((names for names in reversed(list((labels or {}).values())) if len(names) == width), None)
    if names and width <= LEGIBLE:
        ax.set_xticks(range(width), [plain(name) for name in names], rotation=60, ha="right", rotation_mode="anchor", fontsize="small")
    for i, j in zip(*np.nonzero(np.isfinite(table)), strict=True):
        if width <= LEGIBLE:
            ax.text(j, i, _short(table[i, j]), ha="center", va="center", fontsize=7, color=ON_DARK if table[i, j] > 0.5 * limit else ON_LIGHT)
    ax.set_xlabel("token" if width <= LEGIBLE else "token (counted from 0)")
    ax.set_title("How far each token's embedding is from the reference's")
    ax.figure.colorbar(shown, ax=ax, label="relative L2 difference", shrink=0.9)
    return ax


def _marks(ax, marks: dict | None, width: int, start: int) -> list[str]:
    """Hatched squares from row `start` down; returns what each row says. Rows in which nothing holds are left out."""
    from matplotlib.patches import Rectangle

    rows = next((rows for rows in reversed(list((marks or {}).values())) if all(len(held) == width for held in rows.values())), {})
    rows = {what: held for what, held in rows.items() if any(held)}
    for i, (held, hatch) in enumerate(zip(rows.values(), HATCHES)):
        for j in np.flatnonzero(held):
            ax.add_patch(Rectangle((j - 0.5, start + i - 0.4), 1, 0.8, facecolor="none", edgecolor="grey", hatch=hatch, linewidth=0))
    return list(rows)[: len(HATCHES)]


def _short(value: float) -> str:
    """A number that fits a small square: 0, .93, 3e-7."""
    return "0" if value == 0 else f"{value:.2f}".lstrip("0") if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")
