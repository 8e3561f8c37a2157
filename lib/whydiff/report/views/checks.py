"""Pictures of checks and of published figures."""

from __future__ import annotations

import numpy as np

from whydiff.formulas.expectations import flow_std, lowest_std_at, velocity_cosine
from whydiff.report.views.colours import CANDIDATE, REFERENCE
from whydiff.report.views.curves import below


def verdicts_of_checks(ax, calibrations: dict):
    """A square for each fault and check: filled where the check catches the fault, a dot where it passes it.

    `calibrations`: by the heading of their columns. The first row is the sound subject, where a square is a false alarm.
    """
    headings, calibrations = list(calibrations), list(calibrations.values())
    faults = calibrations[0].faults
    checks = [(calibration, check) for calibration in calibrations for check in calibration.checks]
    for x, (calibration, check) in enumerate(checks):
        found = calibration.of(check)
        for y, subject in enumerate((calibration.sound, *faults)):
            failed = bool(found.alarms) if y == 0 else subject in found.caught
            if failed:
                ax.plot(x, y, marker="s", markersize=11, color=CANDIDATE if y == 0 else REFERENCE, linestyle="none")
            else:
                ax.plot(x, y, marker=".", markersize=5, color="grey", linestyle="none")
    start = 0
    for heading, calibration in zip(headings, calibrations):
        ax.axvline(start - 0.5, color="black", linewidth=1)
        ax.annotate(heading, (start - 0.4, -0.75), annotation_clip=False, fontweight="bold", va="bottom")
        start += len(calibration.checks)
    ax.axhline(0.5, color="black", linewidth=1)
    ax.set_xticks(range(len(checks)), [check for _, check in checks], rotation=40, ha="right")
    ax.set_yticks(range(len(faults) + 1), [calibrations[0].sound, *faults])
    ax.set(xlim=(-0.6, len(checks) - 0.4), ylim=(len(faults) + 0.6, -0.6))
    ax.set_title("Filled: the check fails this subject. Dot: it passes", pad=22)
    ax.tick_params(length=0)
    return ax


def ratio_region(ax, spreads, correlations, tails, scale_free: tuple[float, float]):
    """Which (rho, q) the mean relative error allows. `tails`: (len(spreads), len(correlations)) P(mean rel >= published)."""
    tails = np.asarray(tails)
    shown = ax.contourf(correlations, spreads, tails, levels=[0, 0.05, 0.25, 0.75, 0.95, 1], cmap="cividis")
    ax.contour(correlations, spreads, tails, levels=[0.05, 0.95], colors="white", linewidths=1.5)
    ax.figure.colorbar(shown, ax=ax, label="P(mean rel ≥ published | its maximum)", ticks=[0, 0.05, 0.25, 0.75, 0.95, 1])
    rho = np.linspace(min(correlations), max(correlations), 200)
    for gamma, style in zip(scale_free, ("--", ":")):
        q = gamma / np.sqrt(1 - rho**2)
        inside = (q >= min(spreads)) & (q <= max(spreads))
        ax.plot(rho[inside], q[inside], color=CANDIDATE, linestyle=style, linewidth=2, label=f"γ = {gamma:.2f}")
    ax.set(xlabel="correlation ρ of expected and actual", ylabel="spread of actual / spread of expected, q",
           title="The band between the white lines fits: ρ alone is not fixed")  # fmt: skip
    below(ax, 0.14)
    return ax


def families(axes, rows, published):
    """Published figures beside what each hypothesis draws. `rows`: (name, max_abs (n,), mean_rel (n,), excluded or not)."""
    for ax, index, figure, label in ((axes[0], 1, published.max_abs, "largest |d|"), (axes[1], 2, published.mean_rel, "mean relative error")):
        for y, row in enumerate(rows):
            low, middle, high = np.percentile(row[index], (5, 50, 95))
            colour = "grey" if row[3] else REFERENCE
            ax.plot((low, high), (y, y), color=colour, linewidth=5, solid_capstyle="butt", alpha=0.5)
            ax.plot(middle, y, marker="x" if row[3] else "o", color=colour, linestyle="none")
        ax.axvline(figure.value, color=CANDIDATE, linestyle="--", linewidth=1.5)
        right = figure.value > sum(ax.get_xlim()) / 2
        ax.annotate(f" published {figure.value:g} ", (figure.value, 0.02), xycoords=("data", "axes fraction"), color=CANDIDATE,
                    ha="right" if right else "left")  # fmt: skip
        ax.set(xlabel=label, ylim=(len(rows) - 0.2, -0.8))
        ax.set_yticks(range(len(rows)), [row[0] for row in rows] if ax is axes[0] else [""] * len(rows))
    axes[0].set_title("Bars: 5 to 95 % of draws; crosses: excluded", loc="left")
    return axes


def flow_expectations(axes, data_stds=(0.7, 1.0)):
    """What a perfect sampler shows: the latents' spread over sigma, and how visible the sign of the prediction is."""
    sigma = np.linspace(0, 1, 101)
    for std, style in zip(data_stds, ("-", "--")):
        axes[0].plot(sigma, flow_std(sigma, std), color=REFERENCE, linestyle=style, label=f"data of spread {std:g}")
        lowest = lowest_std_at(std)
        axes[0].plot(lowest, flow_std(lowest, std), marker="v", color=CANDIDATE, linestyle="none")
        axes[1].plot(sigma, velocity_cosine(sigma, std), color=REFERENCE, linestyle=style, label=f"data of spread {std:g}")
    axes[1].axhline(0, color="black", linewidth=1)
    axes[0].set(ylabel="standard deviation of the latents", title="It falls, and then it rises (▼ lowest)")
    axes[1].set(ylabel="cosine of velocity and latents", title="Near 0 no sign can be read")
    for ax in axes:
        ax.set(xlabel="sigma (1 = noise, 0 = image)")
        ax.invert_xaxis()
        ax.legend(frameon=False)
    return axes
