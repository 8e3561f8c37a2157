"""Bars for the time that each step took, and what the schedule does there."""

from __future__ import annotations

from whydiff.report.views.colours import CANDIDATE, REFERENCE
from whydiff.report.views.curves import STYLE
from whydiff.report.views.pictures import blank, legend

FILL = {"reference": {"color": REFERENCE}, "candidate": {"facecolor": "none", "edgecolor": CANDIDATE, "hatch": "////"}}


def step_times(ax, times: dict, outliers: dict, switches: dict | None = None, most: float | None = None):
    """Seconds of each step by log; the line is what a progress bar showed. `most`: seconds at which the axis ends.

    `times`: StepTimes by role; `outliers`: Outliers by role; `switches`: first step of the second expert by role.
    """
    if not times:
        blank(ax, "No step times were given")
        return ax
    most = most or 1.25 * max(float(t.seconds[1:].max()) if len(t.seconds) > 1 else float(t.seconds[0]) for t in times.values())
    width = 0.8 / len(times)
    for place, (role, t) in enumerate(times.items()):
        left = t.steps + (place - (len(times) - 1) / 2) * width
        ax.bar(left, t.seconds, width, label=f"{role}: time of the step", **FILL[role])
        if t.shown is not None:
            ax.plot(t.steps, t.shown, color="black", linestyle=":", marker=".", label=f"{role}: what the bar showed")
        for i in outliers[role].indices:
            over = t.seconds[i] > most
            ax.annotate(f"{t.seconds[i]:.3g} s" + (" ↑" if over else ""), (left[i], min(t.seconds[i], most)), fontsize="small",
                        va="top", xytext=(8, -4), textcoords="offset points",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    for role, step in (switches or {}).items():
        if step is not None:
            ax.axvline(step - 0.5, color=STYLE[role]["color"], linestyle=STYLE[role]["linestyle"], linewidth=1,
                       label=f"{role}: second expert, from {step}")  # fmt: skip
    ax.set(ylim=(0, most), xlabel="step (counted from 0)", ylabel="seconds", title="Bars that rise over the others stand out")
    legend(ax, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize="small")
    return ax


def shift_intervals(ax, intervals, configured=(), meant: float | None = None):
    """For each grid the shifts that put the change of experts where it was seen, beside those that somebody configured.

    `intervals`: ShiftInterval; `configured`: shifts; `meant`: the one that the run was thought to have.
    """
    if not intervals:
        blank(ax, "No shift puts the change of experts there")
        return ax
    for place, interval in enumerate(intervals):
        ax.barh(place, interval.high - interval.low, left=interval.low, height=0.6, color=REFERENCE)
        ax.annotate(f"[{interval.low:.3f}, {interval.high:.3f})", (interval.high, place), va="center", fontsize="small", zorder=3,
                    xytext=(6, 0), textcoords="offset points", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    for shift in configured:
        ax.axvline(shift, color="black", linestyle="-" if shift == meant else "--", linewidth=1)
        ax.annotate(f" {shift:g}" + (", meant" if shift == meant else ""), (shift, -0.6), va="bottom", fontsize="small")
    ax.set_yticks(range(len(intervals)), [interval.grid for interval in intervals])
    most = max([*configured, *(i.high for i in intervals if i.high < float("inf"))])
    ax.set(xlim=(0, 1.2 * most), ylim=(len(intervals) - 0.5, -1.1), xlabel="shift (vertical lines: configured somewhere)",
           title=f"Shifts that switch at step {intervals[0].switch} of {intervals[0].steps}, by grid")  # fmt: skip
    return ax
