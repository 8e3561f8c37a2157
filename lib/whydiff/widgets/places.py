"""One place of a study as the page shows it: the tensors of both sides, their difference, and every figure of the comparison."""

from __future__ import annotations

import math

import numpy as np

from whydiff.audits.result import cell
from whydiff.measure.compare import compare
from whydiff.verdict import rounded
from whydiff.widgets import stills
from whydiff.widgets.maps import encoded, maps_of

FIGURES = ("relative_l2", "max_abs", "mean_abs", "correlation", "cosine", "psnr", "max_ulp", "differing", "elements")
MOST_POINTS = 400  # of a curve


def shown(study, row, budget: int, added=None) -> dict:
    """A row of a study for the page. `added`: the row of what the stage itself adds there; `budget`: bytes for its maps."""
    entry = {"place": str(row.place), "step": row.place.step, "figures": figures(study, row, added), "stands": row.stands_out,
             "times": over_floor(row), "adds": bool(added is not None and added.stands_out),
             "addedTimes": None if added is None else over_floor(added)}  # fmt: skip
    return entry | picture_of(study, row, budget)


def over_floor(row) -> float | None:
    """The difference in noise floors; None where it cannot be measured, such as of two shapes."""
    if row.difference is None:
        return None
    if row.difference == 0:
        return 0.0
    return rounded(row.difference / row.floor) if row.floor else None


def tensors(study, row):
    """Reference's and candidate's tensor in one shape; each None where only a fingerprint or nothing is held."""
    lab = study.lab
    reference, candidate = (lab.traces[role] for role in ("reference", "candidate"))
    mine = reference[row.place] if reference is not None and row.place in reference else None
    theirs = candidate[row.place] if candidate is not None and row.place in candidate else None
    if mine is not None and theirs is not None and (pair := lab.pair(row.place, theirs)) is not None:
        return pair
    return mine, theirs


def latent_size(study) -> tuple[int, int] | None:
    """(height, width) of the reference's latents, as far as a tensor tells it."""
    trace = study.reference or study.candidate
    for probe in ("vae_latents", "initial_noise"):
        value = trace.get(probe) if trace is not None else None
        if value is not None and value.ndim >= 4:
            return tuple(value.shape[-2:])
    return None


def picture_of(study, row, budget: int) -> dict:
    """How the values of a row are drawn: as a picture, maps, a curve, numbers, or not at all."""
    mine, theirs = tensors(study, row)
    if mine is None or theirs is None:
        return {"kind": "words", "text": "The values were not kept here: what is known of them stands in the figures."}
    if mine.shape != theirs.shape:
        return {"kind": "words", "text": f"Nothing to lay side by side: {row.why or 'the shapes differ'}."}
    if row.place.probe == "image" and mine.ndim >= 4:
        return _pixels(mine, theirs)
    if mine.is_complex():
        mine, theirs = mine.abs(), theirs.abs()
    size = latent_size(study)
    maps = maps_of(mine, row.place.probe, size)
    if maps is not None:
        return encoded(maps, maps_of(theirs, row.place.probe, size), budget)
    return _curve(mine, theirs)


def _pixels(mine, theirs) -> dict:
    a, b = (frames_of(x)[len(frames_of(x)) // 2] for x in (mine, theirs))
    gap = (b - a).mean(-1)
    limit = float(np.abs(gap).max())
    return {"kind": "picture", "reference": stills.address(a), "candidate": stills.address(b), "rows": a.shape[0], "columns": a.shape[1],
            "difference": stills.address(stills.signed(gap, limit)), "limit": limit, "equal": bool(np.array_equal(a, b))}  # fmt: skip


def frames_of(image) -> list[np.ndarray]:
    """(B, H, W, C) or (B, F, H, W, C) in [0, 1] -> pictures (H, W, 3) float64."""
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
    pixels = pixels.reshape(-1, *pixels.shape[-3:])[..., :3].clip(0, 1)
    return [np.broadcast_to(p, (*p.shape[:2], 3)) if p.shape[-1] == 1 else p for p in pixels]


def _curve(mine, theirs) -> dict:
    a, b = (x.detach().cpu().double().flatten() for x in (mine, theirs))
    kept = np.unique(np.linspace(0, max(0, len(a) - 1), min(len(a), MOST_POINTS)).round().astype(int)).tolist()
    values = {role: [_number(x[i]) for i in kept] if len(a) else [] for role, x in (("reference", a), ("candidate", b))}
    return {"kind": "curve", "index": kept, "equal": bool(a.equal(b)), **values}


def _number(value) -> float | None:
    return float(value) if math.isfinite(value) else None


def figures(study, row, added=None) -> list[list[str]]:
    """[name, value] of everything that is known about a row, in words for a table."""
    lines = [["difference, whole runs", row.difference], ["noise floor", row.floor], ["stands out", row.stands_out], ["why", row.why],
             ["known", "figures alone" if row.figures else "estimated from sketches" if row.estimated else ""]]  # fmt: skip
    if added is not None:
        lines += [["added on equal inputs", added.difference], ["noise floor of the stage", added.floor]]
    mine, theirs = tensors(study, row)
    if mine is not None and theirs is not None and mine.shape == theirs.shape:
        found = compare(mine, theirs).to_dict()
        lines += [[name.replace("_", " "), found[name]] for name in FIGURES]
        lines += [["shape", " × ".join(map(str, mine.shape))]]
    return [[name, cell(value)] for name, value in lines if value not in (None, "")]
