"""The sampler as a film: both sides' latents and their difference after each step, with a slider, a button to play, and channels."""

from __future__ import annotations

import numpy as np

from whydiff.measure.compare import relative_l2
from whydiff.widgets import stills
from whydiff.widgets.board import MOST_STEPS, some
from whydiff.widgets.exhibit import Exhibit
from whydiff.widgets.maps import maps_of
from whydiff.widgets.places import frames_of, latent_size, shown, tensors

BUDGET = 600_000  # bytes of all maps
FITS = 0.3  # share of the picture's variance below which a preview would mislead


def steps_player(study, probe: str = "latents") -> Exhibit:
    """The tensors of `probe`, step by step, on the reference's and the candidate's side, and candidate minus reference."""
    rows = [row for row in study.rows if row.place.probe == probe and row.place.step is not None]
    rows = some(sorted(rows, key=lambda row: (row.place.step, row.place.branch or "", row.place.occurrence)), MOST_STEPS)
    items = [shown(study, row, BUDGET // max(1, len(rows))) for row in rows]
    colours = preview(study) if probe == "latents" else None
    if colours is not None:
        for row, item in zip(rows, items, strict=True):
            item["preview"] = coloured(study, row, colours)
    data = {"kind": "steps", "probe": probe, "items": items, "previewShare": None if colours is None else colours[1],
            "curve": [{"step": row.place.step, "difference": row.difference, "floor": row.floor} for row in rows]}  # fmt: skip
    if not items:
        return Exhibit(data, f"<p>No {probe} were recorded on both sides.</p>", f"no {probe} on both sides", height=60)
    last = rows[-1]
    return Exhibit(data, still(study, last, f"{probe} after the last step"), f"{probe}, {len(items)} steps", height=560)


def preview(study) -> tuple[np.ndarray, float] | None:
    """((channels + 1, 3), share of the variance) of the linear map from the reference's last latents to its picture, by least
    squares: latents can be looked at in colour without a decoder. None where it would mislead, or nothing fits together."""
    trace = study.reference
    latents, image = (None if trace is None else trace.get(name) for name in ("vae_latents", "image"))
    if latents is None or image is None or latents.ndim != 4 or image.ndim != 4 or len(latents) != len(image):
        return None
    channels, rows, columns = latents.shape[1:]
    if image.shape[1] % rows or image.shape[2] % columns or image.shape[3] < 3:
        return None
    pixels = frames_of(image)[0]
    small = pixels.reshape(rows, pixels.shape[0] // rows, columns, pixels.shape[1] // columns, 3).mean((1, 3)).reshape(-1, 3)
    inputs = np.concatenate([latents[0].double().numpy().reshape(channels, -1).T, np.ones((rows * columns, 1))], axis=1)
    if len(inputs) < 4 * inputs.shape[1] or not np.isfinite(inputs).all():
        return None
    weights, *_ = np.linalg.lstsq(inputs, small, rcond=None)
    spread = ((small - small.mean(0)) ** 2).sum()
    share = float(1 - ((small - inputs @ weights) ** 2).sum() / spread) if spread else 0.0
    return (weights, share) if share >= FITS else None


def coloured(study, row, colours: tuple[np.ndarray, float]) -> dict | None:
    """Both sides' latents of a row in colour, and their signed difference, as data addresses."""
    weights, _ = colours
    pictures = []
    for tensor in tensors(study, row):
        maps = None if tensor is None else maps_of(tensor, row.place.probe, latent_size(study))
        if maps is None or len(maps.values) != len(weights) - 1:
            return None
        pictures.append(np.nan_to_num(np.moveaxis(maps.values, 0, -1) @ weights[:-1] + weights[-1]).clip(0, 1))
    gap = (pictures[1] - pictures[0]).mean(-1)
    return {"reference": stills.address(pictures[0]), "candidate": stills.address(pictures[1]), "difference": stills.address(stills.signed(gap, 1.0)),
            "rows": gap.shape[0], "columns": gap.shape[1], "equal": bool((gap == 0).all()), "limit": 1.0}  # fmt: skip


def still(study, row, words: str) -> str:
    """Plain pictures of one place: the first plane of both sides and of their difference."""
    mine, theirs = tensors(study, row)
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return f"<p>{words}: nothing to lay side by side.</p>"
    maps = [maps_of(tensor, row.place.probe, latent_size(study)) for tensor in (mine, theirs)]
    if maps[0] is None:
        return f"<p>{words}: relative difference {relative_l2(mine, theirs):.3g}.</p>"
    a, b = (entry.values[0][:96, :96] for entry in maps)
    known = np.concatenate([a[np.isfinite(a)], b[np.isfinite(b)]])
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    gap = b - a
    limit = float(np.nanmax(np.abs(gap), initial=0.0))
    drawn = [stills.sequential((x - low) / ((high - low) or 1.0)) for x in (a, b)] + [stills.signed(gap, limit)]
    captions = [f"reference, {low:.3g} to {high:.3g}", "candidate, same scale", f"candidate minus reference, from -{limit:.3g} to {limit:.3g}"]
    sources = [stills.address(stills.enlarged(pixels)) for pixels in drawn]
    return stills.figure(list(zip(captions, sources)), f"{words}, {maps[0].labels[0]}: relative difference {relative_l2(mine, theirs):.3g}.")
