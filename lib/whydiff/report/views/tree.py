"""A network as a tree of modules, with what each block adds to the error."""

from __future__ import annotations

from whydiff.report.views.colours import CANDIDATE, REFERENCE, plain
from whydiff.report.views.pictures import blank

LINES = 40


def module_tree(ax, tree, deepest: int = 2):
    """Each block on a line of its own, indented: its error in noise floors as a hatched bar, by how much that is louder
    than all before it as a solid one, the first to depart marked.

    `tree`: the root of `audits.module_tree.Block`s; blocks further down than `deepest`, and more than LINES, are left out.
    """
    lines = [] if tree is None else [block for block in tree.walk(deepest) if block.floors is not None]
    if not lines:
        blank(ax, "Modules were not compared: that takes two live sides with components")
        return ax
    left_out, lines = len(lines) - LINES, lines[:LINES]
    places, low = range(len(lines)), 0.1
    ax.barh(places, [max(block.floors, low) for block in lines], height=0.75, facecolor="none", edgecolor="grey", hatch="////",
            linewidth=0.6, label="difference of its output")  # fmt: skip
    ax.barh(places, [max(block.added, low) for block in lines], height=0.4, color=REFERENCE, label="by how much louder than all before it")
    ax.axvline(tree.limit, color="black", linestyle="--", linewidth=1.2, label=f"stands out: {tree.limit:g} floors")
    for y, block in enumerate(lines):
        if block.first and not any(child.first and child in lines for child in block.children):
            inside = next((inner.name for inner in block.walk() if inner.first and not any(c.first for c in inner.children)), "")
            words = f": {plain(inside.removeprefix(block.name).lstrip('./'))}" if inside else ""
            ax.annotate(f" ◀ first to depart{words}", (max(block.floors, low), y), va="center", fontweight="bold", color=CANDIDATE)
    ax.set_yticks(places, ["   " * block.depth + plain(block.label) for block in lines], fontsize="small")
    for label in ax.get_yticklabels():
        label.set_ha("left")
    longest = max(3 * block.depth + len(block.label) for block in lines)
    ax.tick_params(axis="y", pad=6 + 5 * longest, length=0)
    ax.set_xscale("log")
    ax.set(xlim=(low, max(10 * tree.limit, *(block.floors for block in lines)) * 1e4), xlabel="difference in noise floors (1 = rounding)")
    ax.set_title("Module by module, on equal inputs" + (f" ({left_out} more not shown)" if left_out > 0 else ""))
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=3, fontsize="small")
    return ax
