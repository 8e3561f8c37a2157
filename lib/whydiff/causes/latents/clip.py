"""The condition frame of a video: encoded alone on one side, and as the first frame of a clip on the other."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(finding: Finding, lab) -> list[Explanation]:
    """`first-frame-encoding-context`: the encoder's inputs (B, C, T, H, W) share their first frames, and a VAE makes another first
    latent frame of the shorter clip.

    A VAE whose first latent frame depends on nothing behind it makes the same of both: then this is no cause of anything.
    """
    pixels = {role: lab.own_value(role, finding.place) for role in OTHER}
    if any(t is None or t.dim() != 5 for t in pixels.values()):
        return []
    short = min(pixels, key=lambda role: pixels[role].shape[2])
    few, many = pixels[short], pixels[OTHER[short]]
    count = few.shape[2]
    if count != 1 or many.shape[2] <= 1 or few.shape != many[:, :, :1].shape or not lab.closes(finding, many[:, :, :1], few):
        return []
    if not _one_length(lab):
        return []
    made = _encoded(lab, few, many) or _recorded(lab, finding.place.occurrence, short)
    if made is None:
        return []
    alone, beside, how = made
    apart = relative_l2(beside, alone)
    if not lab.stands_out(Place("image_latents"), beside, alone):
        return []
    frames = {role: t.shape[2] for role, t in pixels.items()}
    return [Explanation(
        id="first-frame-encoding-context", stage="latent_handling", departs="unknown", explained=1.0,
        statement=f"the {short} encodes the condition frame alone, the {OTHER[short]} as the first of {many.shape[2]} frames: their first latent "
                  f"frames are {apart:.3g} apart (relative L2)",
        relation={"kind": "context", **frames, "difference": apart},
        experiment=f"the {short}'s frame is the {OTHER[short]}'s first; {how} both ways: the first latent frames differ by {apart:.3g}",
        fix="encode the condition frame with the same frames behind it (or none) on both sides, as the model was trained",
        covers={"image_latents"})]  # fmt: skip


def explain_latents(finding: Finding, lab) -> list[Explanation]:
    """The same, where both encoders are seen to receive the clip: one side's first latent frame is what a side's own VAE makes of
    the frame alone, the other's what it makes of the clip."""
    if len(finding.places) != 1 or finding.place not in finding.candidate:
        return []
    own = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    pixels = [lab.own_value(role, Place("init_image", occurrence=finding.place.occurrence)) for role in OTHER]
    clip = max((t for t in pixels if t is not None and t.dim() == 5), key=lambda t: t.shape[2], default=None)
    if clip is None or clip.shape[2] < 2 or any(t.dim() != 5 for t in own.values()):
        return []
    made = _encoded(lab, clip[:, :, :1], clip)
    if made is None or made[0].shape != own["reference"][:, :, :1].shape:
        return []
    alone, beside, how = made
    if lab.closes(finding, beside, alone) or not lab.closes(finding, own["reference"][:, :, 1:], own["candidate"][:, :, 1:]):
        return []
    for role in OTHER:
        if lab.closes(finding, alone, own[role][:, :, :1]) and lab.closes(finding, beside, own[OTHER[role]][:, :, :1]):
            apart = relative_l2(beside, alone)
            return [Explanation(
                id="first-frame-encoding-context", stage="latent_handling", departs="unknown", explained=1.0,
                statement=f"the {role}'s first latent frame is that of the condition frame encoded alone, the {OTHER[role]}'s that of the "
                          f"clip of {clip.shape[2]} frames; they are {apart:.3g} apart (relative L2)",
                relation={"kind": "context", role: 1, OTHER[role]: clip.shape[2], "difference": apart},
                experiment=f"{how} both ways: alone it is the {role}'s first latent frame, with the clip the {OTHER[role]}'s; the other frames "
                           "are equal",
                fix="encode the condition frame with the same frames behind it (or none) on both sides, as the model was trained")]  # fmt: skip
    return []


def _one_length(lab) -> bool:
    """Do both sides make a video of one length? Else a clip of another length is no cause of its own."""
    for probe in ("initial_noise", "initial_latents"):
        seen = [None if lab.traces[role] is None else lab.traces[role].get(probe) for role in OTHER]
        if None not in [None if t is None else 0 for t in seen]:
            return seen[0].shape == seen[1].shape
    return False


def _encoded(lab, few: torch.Tensor, many: torch.Tensor):
    """(first latent frame of the frame alone, of the clip, how they were made), by the VAE of a live side: its mean, so that no draw
    takes part."""
    for role in OTHER:
        side = lab.sides[role]
        vae = side.components.get("vae") if side is not None else None
        if not isinstance(vae, torch.nn.Module) or not hasattr(vae, "encode"):
            continue
        weight = next(vae.parameters())
        with torch.no_grad():
            means = [getattr(getattr(vae.encode(t.to(device=weight.device, dtype=weight.dtype)), "latent_dist", None), "mean", None)
                     for t in (few, many)]  # fmt: skip
        if None not in [None if t is None else 0 for t in means]:
            return means[0][:, :, :1].cpu(), means[1][:, :, :1].cpu(), f"encoded it with the {role}'s VAE"
    return None


def _recorded(lab, occurrence: int, short: str):
    """The same from what both sides recorded."""
    events = {role: lab.traces[role].events.get(Place("image_latents", occurrence=occurrence)) for role in OTHER}
    if None in events.values() or any(e.tensor.dim() != 5 for e in events.values()):
        return None
    first = {role: e.tensor[:, :, :1] for role, e in events.items()}
    if first["reference"].shape != first["candidate"].shape:
        return None
    return first[short], first[OTHER[short]], "compared what was encoded"
