"""Two pictures over each other: swipe, blink, side by side with one zoom, signed difference, and what an eye sees of it (FLIP)."""

from __future__ import annotations

import numpy as np

from whydiff.audits.start_here import image_pair
from whydiff.measure.pictures import compare_pictures as compared
from whydiff.widgets import stills
from whydiff.widgets.board import some
from whydiff.widgets.exhibit import Exhibit
from whydiff.widgets.places import frames_of

MOST_FRAMES = 6  # of a video or a batch


def compare_pictures(study, amplify: float = 1.0) -> Exhibit:
    """Both sides' pictures to compare by eye. `amplify` multiplies the difference before it is coloured."""
    data = pair(image_pair(study), amplify, {role: getattr(study.case, role).name or role for role in ("reference", "candidate")})
    words = data["figures"] or data["why"]
    return Exhibit(data, stills.figure(stills.captioned(data), words), "reference and candidate: " + (words or "pictures"), height=560)


def pair(image: dict, amplify: float = 1.0, names: dict | None = None) -> dict:
    """What the page needs: up to MOST_FRAMES frames of both sides, their difference and FLIP map, as data addresses.

    `image`: (B, H, W, C) or (B, F, H, W, C) in [0, 1] by role, None where there is none; `names` of the sides, by role.
    """
    found = {role: None if value is None else frames_of(value) for role, value in image.items()}
    sizes = {role: None if frames is None else f"{frames[0].shape[1]} × {frames[0].shape[0]} pixels" for role, frames in found.items()}
    data = {"kind": "pictures", "names": {role: role for role in found} | (names or {}), "sizes": sizes, "frames": [], "figures": "", "why": "",
            "limit": 1 / amplify, "flipLimit": 1.0, "rows": 0, "columns": 0}  # fmt: skip
    known = [frames for frames in found.values() if frames]
    if not known:
        return data | {"why": "No picture was recorded."}
    data |= {"rows": known[0][0].shape[0], "columns": known[0][0].shape[1]}
    comparable = len(known) == 2 and np.shape(image["reference"]) == np.shape(image["candidate"])
    if not comparable:
        why = f"The pictures have different sizes: {sizes['reference']} against {sizes['candidate']}."
        why = why if len(known) == 2 else "Only one side has a picture."
        return data | {"why": why, "frames": [_frame(found, i, {}) for i in some(list(range(min(map(len, known)))), MOST_FRAMES)]}
    seen = _seen(image)
    flip = None if seen is None else seen.flip_map.numpy()
    # A limit of its own where nothing comes near 1: a scale that ends at 1 would show a small difference as none at all.
    limit = min(1.0, max(float(np.abs(a - b).max()) for a, b in zip(*known))) / amplify or 1.0
    top = 1.0 if flip is None else float(flip.max()) or 1.0
    extra = {"limit": limit, "flip": flip, "top": top}
    return data | {"figures": "" if seen is None else str(seen), "limit": limit, "flipLimit": top,
                   "frames": [_frame(found, i, extra) for i in some(list(range(len(known[0]))), MOST_FRAMES)]}  # fmt: skip


def _seen(image: dict):
    """The figures of the comparison, or None where a picture is too small for them."""
    return None if min(np.shape(image["reference"])[-3:-1]) < 3 else compared(image["reference"], image["candidate"])


def _frame(found: dict, i: int, extra: dict) -> dict:
    frame = {role: None if frames is None else stills.address(frames[i]) for role, frames in found.items()}
    frame |= {"label": f"picture {i}", "difference": None, "flip": None}
    if extra:
        gap = (found["candidate"][i] - found["reference"][i]).mean(-1)
        frame["difference"] = stills.address(stills.signed(gap, extra["limit"]))
        if extra["flip"] is not None:
            frame["flip"] = stills.address(stills.sequential(extra["flip"][i] / extra["top"]))
    return frame
