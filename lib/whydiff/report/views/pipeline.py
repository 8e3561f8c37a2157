"""The pipeline as a strip of stages."""

from __future__ import annotations

import textwrap

from whydiff.report.stages import in_floors
from whydiff.report.views.colours import ON_DARK, ON_LIGHT, SIZE
from whydiff.report.views.pictures import blank


def pipeline(ax, stages):
    """A box for each stage from left to right, coloured by its difference over the noise floor: the darker, the louder. The
    first divergence has a mark over it, stages where something goes wrong a thick frame, those that were not compared none.

    `stages`: `report.stages.Stage`s.
    """
    import matplotlib
    from matplotlib.patches import FancyBboxPatch

    colours = matplotlib.colormaps[SIZE + "_r"]
    blank(ax, "Where it goes wrong: the darker, the further beyond noise")
    for x, stage in enumerate(stages):
        wrong, compared = stage.state in ("cause", "unexplained"), stage.state != "none"
        loud = 0.9 * stage.loudness if compared else 0.0
        ax.add_patch(FancyBboxPatch((x - 0.42, 0), 0.84, 1, boxstyle="round,pad=0,rounding_size=0.06", label=stage.stage,
                                    facecolor=colours(loud) if loud else "none", linewidth=3 if wrong else 1,
                                    edgecolor="black" if wrong else "grey", linestyle="-" if compared else ":"))  # fmt: skip
        colour = "black" if not loud else ON_DARK if loud > 0.5 else ON_LIGHT
        ax.text(x, 0.76, stage.sign, ha="center", va="center", fontsize=15, fontweight="bold", color=colour)
        words = "\n".join(textwrap.wrap(stage.name, 10))
        ax.text(x, 0.5, words, ha="center", va="center", fontsize=9, fontweight="bold", color=colour)
        ax.text(x, 0.17, "\n".join(textwrap.wrap(loudness_words(stage), 12)), ha="center", va="center", fontsize=8, color=colour)
        if stage.first:
            ax.annotate("first divergence", (x, 1.03), (x, 1.3), ha="center", fontsize=9, fontweight="bold", annotation_clip=False,
                        arrowprops={"arrowstyle": "-|>", "color": "black"})  # fmt: skip
        if x:
            ax.annotate("", (x - 0.43, 0.5), (x - 0.57, 0.5), arrowprops={"arrowstyle": "->", "color": "grey"})
    ax.set(xlim=(-0.6, max(len(stages), 1) - 0.4), ylim=(-0.08, 1.45))
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def loudness_words(stage) -> str:
    """`2e6 floors`, `within noise`: how far a stage is beyond noise, in words."""
    if stage.floors is None or stage.state in ("none", "same", "noise", "declared", "settings"):
        return stage.word
    return in_floors(stage.floors)
