"""Colours of the pictures. Each reads in grey and without red and green, and nothing is told by a colour alone."""

from __future__ import annotations

import numpy as np

REFERENCE, CANDIDATE = "#1b5e8c", "#c2571a"  # dark and light enough to differ in grey as well
ON_DARK, ON_LIGHT = "#fefefe", "#010101"  # text on a coloured square, the same on a dark page: pure black and white follow the page
SIZE = "cividis"  # of a magnitude: lightness only grows
ZERO = "...."  # the hatch of exact zero, which no colour of a scale has


def signed_image(ax, values: np.ndarray, limit: float, label: str):
    """(H, W) signed values on one symmetric scale from -`limit` to `limit`, dark to light; what is exactly 0 is left out of the
    scale: dotted paper."""
    shown = ax.imshow(np.ma.masked_equal(values, 0.0), cmap=SIZE, vmin=-limit, vmax=limit, interpolation="nearest")
    _paper(ax, bool((values == 0).any()))
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.04, label=label)
    return shown


def size_image(ax, values: np.ndarray, limit: float, label: str):
    """(H, W) magnitudes from 0 to `limit`, dark to light; what is exactly 0 is dotted paper."""
    shown = ax.imshow(np.ma.masked_equal(values, 0.0), cmap=SIZE, vmin=0, vmax=limit, interpolation="nearest")
    _paper(ax, bool((values == 0).any()))
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.04, label=label)
    return shown


def _paper(ax, dotted: bool) -> None:
    ax.patch.set(facecolor="none", edgecolor="grey", linewidth=0)
    if dotted:
        ax.patch.set_hatch(ZERO)
        ax.set_xlabel("dotted: exactly equal")


def plain(text) -> str:
    """Text of a user for a picture: a dollar is a dollar, not mathematics."""
    return str(text).replace("$", r"\$")
