"""Curves and bars: schedules, steps, differences over the pipeline, causes."""

from __future__ import annotations

import math

import numpy as np

from whydiff.evidence.floor import STANDS_OUT
from whydiff.report.views.colours import CANDIDATE, REFERENCE, plain
from whydiff.report.views.pictures import blank, legend
from whydiff.verdict import share

STYLE = {
    "reference": {"color": REFERENCE, "linestyle": "-", "marker": "o", "markersize": 4},
    "candidate": {"color": CANDIDATE, "linestyle": "--", "marker": "s", "markersize": 5, "markerfacecolor": "none"},
}


def sigma_schedules(ax, sigmas: dict, switches: dict | None = None, boundary: float | None = None):
    """Noise level by step on both sides, and where the second expert takes over. `sigmas`: (N,) or (N + 1,) by role."""
    for role, values in sigmas.items():
        if values is not None:
            ax.plot(range(len(values)), values, label=role, **STYLE[role])
    if boundary is not None:
        ax.axhline(boundary, color="black", linewidth=1, linestyle=":")
        ax.annotate(f"boundary {boundary:g}", (0.01, boundary), xycoords=("axes fraction", "data"), va="top", fontsize="small")
    for role, step in (switches or {}).items():
        if step is not None:
            ax.axvline(step, color=STYLE[role]["color"], linestyle=STYLE[role]["linestyle"], linewidth=1)
            ax.annotate(
                f" {role}: switch at step {step}",
                (step, 0.03 if role == "reference" else 0.1),
                xycoords=("data", "axes fraction"),
                fontsize="small",
                color=STYLE[role]["color"],
            )
    ax.set(
        xlabel="step (counted from 0)",
        ylabel="sigma (1 = noise, 0 = image)",
        title="Lines that coincide walk the same noise levels",
    )
    legend(ax, frameon=False)
    return ax


def stage_strip(ax, strip, limit: float = STANDS_OUT):
    """Difference over noise floor by probe, in walking order: whole runs as hatched bars, what the stage adds as solid ones.

    `strip`: (probe, of whole runs, added or None, first divergence or not); `limit`: floors from which a difference stands out.
    """
    probes = [entry[0] for entry in strip]
    place = np.arange(len(probes))
    low, high = 0.3, max([1e3, *(v for e in strip for v in e[1:3] if v is not None and math.isfinite(v))]) * 10
    ax.barh(
        place,
        [_clipped(e[1], low, high) for e in strip],
        left=0,
        height=0.75,
        facecolor="none",
        edgecolor="grey",
        hatch="////",
        linewidth=0.6,
        label="whole runs: inherited and added",
    )
    ax.barh(place, [_clipped(e[2], low, high) for e in strip], left=0, height=0.4, color=REFERENCE, label="added on equal inputs")
    ax.axvline(limit, color="black", linestyle="--", linewidth=1.2, label=f"stands out: {limit:g} floors")
    for i, entry in enumerate(strip):
        if entry[3]:
            ax.annotate("  ◀ first divergence", (_clipped(entry[1], low, high), i), va="center", fontweight="bold")
    ax.set_xscale("log")
    ax.set(
        xlim=(low, high * 1e3),
        xlabel="difference in noise floors (1 = rounding)",
        title="Who adds a difference, and who only inherits one",
    )
    ax.set_yticks(place, list(map(plain, probes)))
    ax.invert_yaxis()
    below(ax, 0.12, columns=2)
    return ax


def below(ax, distance: float = 0.2, columns: int = 3):
    """The legend under the axes, where it covers nothing."""
    legend(ax, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -distance), ncols=columns)


def _clipped(value, low: float, high: float) -> float:
    return low if value is None else min(max(value, low), high)


def growth(ax, growth: dict):
    """Difference of the latents after each step: inherited from step to step, and added by one step alone."""
    marks = {
        "inherited": ("whole runs: inherited and added", STYLE["reference"]),
        "added": ("one step on equal inputs: added", STYLE["candidate"]),
    }
    if not any(growth.values()):
        blank(ax, "No latents were recorded on both sides")
        return ax
    tiny = 1e-9
    for name, (label, style) in marks.items():
        if growth.get(name):
            steps, values = zip(*growth[name], strict=True)
            ax.plot(steps, [max(v, tiny) for v in values], label=label, **style)
    if growth.get("floor"):
        steps, values = zip(*growth["floor"], strict=True)
        ax.fill_between(
            steps, tiny, [max(v, tiny) for v in values], color="grey", alpha=0.3, linewidth=0, label="within noise"
        )
    ax.set_yscale("log")
    ax.set(
        xlabel="step (counted from 0)",
        ylabel="relative L2 difference\n(0 drawn at 1e-9)",
        title="Latents: does the difference grow, or does one step make it?",
    )
    below(ax)
    return ax


def dt_per_step(ax, updates: dict):
    """The step really taken (dt, recovered from the latents) beside the difference of sigmas that an Euler step takes."""
    for role, steps in updates.items():
        if steps:
            ax.plot([u.step for u in steps], [u.dt for u in steps], label=f"{role}: dt taken", **STYLE[role])
            known = [u for u in steps if u.expected is not None]
            ax.plot(
                [u.step for u in known],
                [u.expected for u in known],
                linestyle="none",
                marker="x" if role == "reference" else "+",
                markersize=9,
                color="black",
                label=f"{role}: difference of sigmas",
            )
    ax.set(
        xlabel="step (counted from 0)",
        ylabel="dt (sigma after − sigma before)",
        title="Marks on the line: Euler steps over the side's own sigmas",
    )
    legend(ax, frameon=False, fontsize="small")
    return ax


def ranked_causes(ax, effects):
    """How much of the picture's difference goes when one cause alone is repaired. `effects`: (id, explained, share or None)."""
    if not effects:
        blank(ax, "There is no cause to rank")
        return ax
    place = np.arange(len(effects))
    shares = [0.0 if effect is None else effect for _, _, effect in effects]
    bars = ax.barh(place, shares, height=0.6, color=REFERENCE, hatch="//", edgecolor="white")
    for bar, (_, _, effect) in zip(bars, effects, strict=True):
        words = share(effect)
        ax.annotate(f" {words} ", (max(bar.get_width(), 0), bar.get_y() + bar.get_height() / 2), va="center", ha="left")
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(place, [id_ for id_, _, _ in effects])
    ax.invert_yaxis()
    ax.set(
        xlim=(min(-0.05, *shares, 0) * 1.1, max(1.0, *shares, 0) * 1.1),
        xlabel="share of the picture's difference that goes (1 = all of it)",
        title="What repairing one cause alone does to the picture",
    )
    return ax


def weights(ax, pairings: dict):
    """How each component's weights were paired: stacked counts by component."""
    kinds = (
        ("same name and values", "same_name", ""),
        ("renamed", "renamed", "//"),
        ("fused or split by rows", "fused", ".."),
        ("stored in another order", "reordered", "xx"),
        ("values differ", "changed", "**"),
    )
    left = np.zeros(len(pairings))
    shades = np.linspace(0.9, 0.35, len(kinds))
    for (label, field, hatch), shade in zip(kinds, shades, strict=True):
        counts = np.array([len(getattr(p, field)) for p in pairings.values()], dtype=float)
        if counts.any():
            ax.barh(
                list(pairings), counts, left=left, color=str(shade), hatch=hatch, edgecolor="black", linewidth=0.6, label=label
            )
            left += counts
    alone = np.array([len(p.only_reference) + len(p.only_candidate) for p in pairings.values()], dtype=float)
    if alone.any():
        ax.barh(list(pairings), alone, left=left, color="black", label="no counterpart")
    ax.set(xlabel="tensors of the candidate", title="By which sign each weight was recognised on the other side")
    legend(ax, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return ax


def modules(ax, walk, limit: float = STANDS_OUT):
    """The network module by module at one step, on equal inputs: difference of each pair beside what stands out."""
    if walk is None:
        blank(ax, "Modules were not recorded: both sides must be live, with components")
        return ax
    pairs = walk.alignment.pairs
    place = range(len(pairs))
    tiny = 1e-9
    ax.plot(place, [max(pair.difference, tiny) for pair in pairs], label="difference of the pair", **STYLE["candidate"])
    ax.plot(
        place,
        [max(limit * walk.floors[pair.reference], tiny) for pair in pairs],
        color="black",
        linestyle=":",
        label=f"stands out: {limit:g} floors",
    )
    if walk.first is not None:
        at = pairs.index(walk.first)
        ax.axvline(at, color="black", linewidth=1)
        ax.annotate(
            f" first to depart:\n {plain(walk.first.candidate)}",
            (at, 0.97),
            xycoords=("data", "axes fraction"),
            va="top",
            fontsize="small",
        )
    ax.set_yscale("log")
    ax.set(
        xlabel="paired modules, in the order in which they run",
        ylabel="relative L2 difference\n(0 drawn at 1e-9)",
        title=f"The network at step {walk.step}, on the reference's inputs",
    )
    below(ax)
    return ax
