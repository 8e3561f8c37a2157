"""The initial noise of both sides."""

from __future__ import annotations

import numpy as np

from whydiff.report.views.colours import CANDIDATE, REFERENCE
from whydiff.report.views.pictures import blank, legend

POINTS = 3000  # of the scatter, evenly from the whole


def noise_pair(axes, reference, candidate, correlation: float | None = None):
    """Histogram of both draws on the first axes, one against the other on the second, with their correlation; both flat arrays of
    equal length."""
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
    some = slice(None, None, max(1, len(reference) // POINTS))
    axes[1].scatter(reference[some], candidate[some], s=8, rasterized=True, facecolors="none", edgecolors=CANDIDATE, linewidths=0.7)
    axes[1].plot([-4, 4], [-4, 4], color="black", linewidth=1, linestyle=":")
    axes[1].set(
        xlim=(-4, 4),
        ylim=(-4, 4),
        aspect="equal",
        xlabel="reference's value",
        ylabel="candidate's value",
        title="One draw lies on the diagonal, two make a cloud",
    )
    if correlation is not None:
        axes[1].text(0.04, 0.96, f"correlation {correlation:.3f}", transform=axes[1].transAxes, va="top", fontweight="bold",
                     bbox={"facecolor": "white", "edgecolor": "grey", "linewidth": 0.5})  # fmt: skip
    return axes
