"""The VAE as a whole: parts decoded on their own, a convolution left out, borders of tiles, wrong ends, sample against mean.

What no module inside shows, because the decoder's own code around its modules is what differs.
"""

from __future__ import annotations

import contextlib
import re

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.evidence.floor import STANDS_OUT, own_ulp
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

OTHER = {"reference": "candidate", "candidate": "reference"}
PARTS = (2, 3, 4)
TAIL = 0.34  # a corrupt end is shorter than this share of its axis


def explain(finding: Finding, lab) -> list[Explanation]:
    """Experiments at `decoded` and `image_latents`, those that run a live VAE first."""
    if finding.place not in finding.candidate:
        return []
    tests = (_sampled,) if finding.probe == "image_latents" else (_in_parts, _skipped, _tiles, _tail)
    for test in tests:
        with contextlib.suppress(RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
            found = test(finding, lab)
            if found is not None:
                return [found]
    return []


def _vae(lab, role):
    side = lab.sides[role]
    vae = side.components.get("vae") if side is not None else None
    return vae if isinstance(vae, torch.nn.Module) and hasattr(vae, "decode") else None


def _decode(vae, latents: torch.Tensor) -> torch.Tensor:
    weight = next(vae.parameters())
    with torch.no_grad():
        return vae.decode(latents.to(device=weight.device, dtype=weight.dtype), return_dict=False)[0].cpu()


def _latents(lab, finding: Finding):
    place = Place("vae_latents", occurrence=finding.place.occurrence)
    event = lab.traces["reference"].events.get(place)
    return None if event is None else event.tensor


def _sides(finding: Finding, lab, latents):
    """(role that runs, its VAE, its own output, what the other side made of the same latents), for each VAE that decodes the
    latents to what was recorded of it: where code outside the VAE had a hand in it, nothing is learned from running it."""
    if latents is None:
        return
    own = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    for role in OTHER:
        vae = _vae(lab, role)
        if vae is not None and lab.closes(finding, own[role], _decode(vae, latents)):
            yield role, vae, own[role], own[OTHER[role]]


def _closes(finding: Finding, lab, own, target, after) -> bool:
    if after.shape != target.shape:
        return False
    left = relative_l2(target, after)
    return lab.closes(finding, target, after) and left <= 0.25 * relative_l2(target, own)


def _in_parts(finding: Finding, lab) -> Explanation | None:
    """Parts of the latents decoded on their own and put side by side: norms then see one part only."""
    latents = _latents(lab, finding)
    for role, vae, own, target in _sides(finding, lab, latents):
        for axis in (-1, -2):
            for parts in (n for n in PARTS if latents.shape[axis] % n == 0):
                after = torch.cat([_decode(vae, part) for part in latents.chunk(parts, axis)], axis)
                if _closes(finding, lab, own, target, after):
                    departs, word = OTHER[role], "columns" if axis == -1 else "rows"
                    return Explanation(
                        id="groupnorm-per-tile", statement=f"the {departs} decodes the latents in {parts} parts along {word}, each on its own",
                        relation={"kind": "decoded_in_parts", "parts": parts, "axis": axis}, explained=1.0, departs=departs, module="vae",
                        experiment=f"let the {role} decode {parts} parts along {word} and joined them: it gives what the {departs} decodes",
                        fix=f"decode whole latents in the {departs}, or synchronise the statistics of its norms")  # fmt: skip
    return None


def _skipped(finding: Finding, lab) -> Explanation | None:
    """A 1x1 convolution between latents and decoder left out."""
    latents = _latents(lab, finding)
    for role, vae, own, target in _sides(finding, lab, latents):
        for name, child in vae.named_children():
            if not re.search(r"quant", name) or set(getattr(child, "kernel_size", (0,))) != {1}:
                continue
            after = _without(vae, child, latents)
            if after is not None and _closes(finding, lab, own, target, after):
                departs = OTHER[role]
                return Explanation(
                    id="quant-conv-missing", statement=f"the {departs} does not apply {name} before decoding", departs=departs, explained=1.0,
                    relation={"kind": "module_skipped", "module": f"vae/{name}", "side": departs}, module=f"vae/{name}",
                    experiment=f"left {name} out of the {role}'s VAE: it decodes what the {departs} does",
                    fix=f"apply {name} to the latents in the {departs}")  # fmt: skip
    return None


def _without(vae, child, latents) -> torch.Tensor | None:
    """What the VAE decodes when `child` passes its input on; None where decoding does not call it."""
    called = []

    def passed_on(_module, args, output):
        called.append(args[0].shape == output.shape)
        return args[0] if called[-1] else None

    handle = child.register_forward_hook(passed_on)
    try:
        after = _decode(vae, latents)
    finally:
        handle.remove()
    return after if called and all(called) else None


def _apart(finding: Finding) -> torch.Tensor:
    """Where both differ by more than the floor, (B, C, ..., H, W) of bool."""
    mine, theirs = finding.reference[finding.place].double(), finding.candidate[finding.place].double()
    limit = STANDS_OUT * max(finding.floor, own_ulp(finding.reference[finding.place])) * mine.square().mean().sqrt()
    return ~((mine - theirs).abs() <= 4 * limit)


def _tiles(finding: Finding, lab) -> Explanation | None:
    """Both sides decode tile by tile and differ only where tiles overlap."""
    grid = [_grid(_vae(lab, role)) for role in OTHER if _vae(lab, role) is not None]
    if len(grid) != 2 or None in grid:
        return None
    apart = _apart(finding)
    height, width = apart.shape[-2:]
    (row, rows), (column, columns) = grid[0]
    in_band = torch.zeros(height, width, dtype=torch.bool)
    for stride, extent, axis, size in ((row, rows, 0, height), (column, columns, 1, width)):
        for start in range(stride, size, stride):
            in_band.narrow(axis, start, min(extent, size - start)).fill_(True)
    where = apart.flatten(0, -3).any(0)
    if not where.any() or in_band.all() or (where & ~in_band).any():
        return None
    share = in_band.double().mean().item()
    return Explanation(
        id="tile-blend-neighbours", statement="both sides decode tile by tile and differ only where tiles overlap", module="vae", explained=1.0,
        relation={"kind": "region", "region": "tile overlaps", "stride": [row, column], "blended": [rows, columns]},
        experiment=f"compared outside the overlaps of tiles, {100 * (1 - share):.0f} % of the picture: no difference beyond the floor is left",
        fix="blend each tile with the neighbours above and to the left as they stand in the blended picture")  # fmt: skip


def _grid(vae):
    """((stride, blended) of rows, of columns) in pixels of a VAE that decodes in tiles; None where it does not."""
    if not getattr(vae, "use_tiling", False):
        return None
    overlap = getattr(vae, "tile_overlap_factor", None)
    if overlap is not None:
        size, latent = vae.tile_sample_min_size, vae.tile_latent_min_size
        stride = int(latent * (1 - overlap)) * (size // latent)
        return ((stride, int(size * overlap)),) * 2
    found = []
    for axis in ("height", "width"):
        size, stride = (getattr(vae, f"tile_sample_{what}_{axis}", None) for what in ("min", "stride"))
        if size is None or stride is None:
            return None
        found.append((stride, size - stride))
    return tuple(found)


def _tail(finding: Finding, lab) -> Explanation | None:
    """Only the last rows, or rows of the last frames, differ: all else agrees to the floor."""
    apart = _apart(finding)
    touched = []  # (axis, word, number of last entries that differ)
    words = {-3: "frames", -2: "rows"} if apart.dim() == 5 else {-2: "rows"}
    for axis, word in words.items():
        other = [i for i in range(apart.dim()) if i != axis % apart.dim()]
        entries = apart.permute(axis % apart.dim(), *other).flatten(1).any(1)
        first = int(entries.nonzero()[0]) if entries.any() else len(entries)
        count = len(entries) - first
        if 0 < count <= max(1, TAIL * len(entries)) and entries[first:].double().mean() > 0.9:
            touched.append((word, count))
    if not touched:
        return None
    side = _flat_side(finding, apart)
    if side is None:
        return None
    where = " of ".join(f"the last {count} {word}" for word, count in reversed(touched))
    return Explanation(
        id="last-frames-corrupt", statement=f"{where} that the {side} decodes are wrong; all else agrees", departs=side, module="vae",
        relation={"kind": "region", "region": dict(touched), "side": side}, explained=1.0,
        experiment=f"compared all but {where}: no difference beyond the floor is left",
        fix=f"check the {side}'s decoder at this size: what it puts out at the end of the canvas is not computed")  # fmt: skip


def _flat_side(finding: Finding, apart) -> str | None:
    """The side that holds one constant, or no finite values, where both differ: nothing was computed there."""
    for role, values in (("candidate", finding.candidate[finding.place]), ("reference", finding.reference[finding.place])):
        part = values[apart]
        if not part.isfinite().all() or bool((part == part[0]).all()):
            return role
    return None


def _sampled(finding: Finding, lab) -> Explanation | None:
    """One side's latents are the posterior's mean, the other's lie around it as its standard deviation says."""
    place = Place("init_image", occurrence=finding.place.occurrence)
    pixels = lab.traces["reference"].events.get(place)
    own = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    for role in OTHER:
        vae = _vae(lab, role)
        if vae is None or pixels is None:
            continue
        weight = next(vae.parameters())
        with torch.no_grad():
            posterior = vae.encode(pixels.tensor.to(device=weight.device, dtype=weight.dtype)).latent_dist
        mean, std = posterior.mean.cpu(), posterior.std.cpu()
        close = {r: own[r].shape == mean.shape and lab.closes(finding, mean, own[r]) for r in OTHER}
        if close["reference"] == close["candidate"]:
            continue
        sampled = "reference" if close["candidate"] else "candidate"
        scatter = ((own[sampled].double() - mean) / std.double().clamp_min(1e-12)).square().mean().item() if own[sampled].shape == mean.shape else 0
        # The mean of n squares of unit normals is 1 ± sqrt(2/n); five of those and 1 % are allowed.
        if abs(scatter - 1) > 5 * (2 / mean.numel()) ** 0.5 + 0.01:
            continue
        words = {sampled: "sample", OTHER[sampled]: "mean"}
        return Explanation(
            id="posterior-sample-vs-mode", statement=f"the {sampled} samples what the VAE encodes, the {OTHER[sampled]} takes its mean",
            relation={"kind": "posterior", **words, "variance": scatter}, explained=1.0, departs="unknown", module="vae",
            experiment=f"encoded the same picture: the {OTHER[sampled]}'s latents are the mean, the {sampled}'s scatter around it with "
                       f"{scatter:.3g} of the posterior's variance", fix="take the mean on both sides, or the sample of one generator")  # fmt: skip
    return None
