"""Bars for where in its tensor a difference sits."""

from __future__ import annotations

from whydiff.report.views.colours import REFERENCE, plain
from whydiff.report.views.pictures import blank


def error_profiles(axes, profile: list[dict], place: str = ""):
    """The share of the squared error along each axis of a tensor, one on each of `axes`; the rest of them stays empty.

    `profile`: entries `{"axis", "size", "shares"}` as in a verdict; a long axis comes in parts of several indices.
    """
    for ax in axes[max(1, len(profile)) :]:
        ax.set_axis_off()
    if not profile:
        blank(axes[0], "No difference to place")
    for ax, entry in zip(axes, profile, strict=False):
        shares, width = entry["shares"], entry["size"] / len(entry["shares"])
        ax.bar([(i + 0.5) * width - 0.5 for i in range(len(shares))], shares, 0.85 * width, color=REFERENCE)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel=f"{entry['axis']} ({entry['size']})", xlim=(-0.5, entry["size"] - 0.5), ylim=(0, None))
    axes[0].set_ylabel("share of the squared error")
    if profile and place:
        axes[0].set_title(f"Where it sits: {plain(place)}", loc="left")
    return axes
