"""A linear layer whose input goes through float8 with scale 1, as it does where a checkpoint brings no scale for it.

Float8 matrix products take both factors in 8 bits (Micikevicius et al. 2022, arXiv 2209.05433: e4m3 up to 448, e5m2 up to
57344), each divided by a scale before. With scale 1 small values lose their bits and large ones are cut off at the end of the type.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import tensors_in

OTHER = {"reference": "candidate", "candidate": "reference"}
TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = "weight_scale", "scale_weight", "weight_scale_inv", "scale"  # names under which layers keep what 8-bit weights are multiplied by


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """One side's linear layer puts out what the other's does with an input rounded to float8 as it is."""
    if not inside.can_run or inside.gap() == 0.0:
        return None
    for role in ("reference", "candidate"):
        weight = _weight(inside.modules[role])
        received = [t for t in tensors_in(inside.calls["reference"].inputs) if t.is_floating_point()][:1]
        if weight is None or not received or received[0].shape[-1:] != weight.shape[-1:]:
            continue
        x, bias, target = received[0].to(weight), getattr(inside.modules[role], "bias", None), inside.outputs()[OTHER[role]]
        for kind in TYPES:
            name = str(kind).removeprefix("torch.")
            for saturating in (True, False):
                for words, w in _weights(weight, kind):
                    if not _passes(inside, target, x, w, bias, kind, 1.0, saturating):
                        continue
                    scaled = float(x.abs().max() / torch.finfo(kind).max)
                    if _passes(inside, target, x, w, bias, kind, scaled, saturating):
                        return None  # a scale of its own gives the same: nothing tells that it is 1
                    return _named(inside, role, name, words, x, kind)
    return None


def _named(inside: Inside, role: str, name: str, words: str, x: torch.Tensor, kind) -> Explanation:
    departs = OTHER[role]
    over = int((x.abs() > torch.finfo(kind).max).sum())
    return Explanation(
        id="fp8-input-scale-default", departs=departs, explained=1.0, module=inside.name, equivalent=["undeclared-dtype"],
        statement=f"{inside.names[departs]} of the {departs} rounds its input to {name} with scale 1 ({over} of {x.numel()} values exceed "
                  f"{torch.finfo(kind).max:g}, the largest is {float(x.abs().max()):.4g}); the {role}'s does not",
        relation={"kind": "float8_input", "dtype": name, "scale": 1.0, "side": departs, "beyond_range": over},
        experiment=f"computed the {role}'s {inside.names[role]} with its input rounded to {name} without a scale{words}: "
                   f"this is what the {departs}'s puts out",
        fix=f"give {inside.names[departs]} of the {departs} a scale for its input (its largest value / {torch.finfo(kind).max:g}), or use its "
            "float8 weights without a float8 product")  # fmt: skip


def _weight(module: torch.nn.Module) -> torch.Tensor | None:
    """The weight of a linear layer as numbers: 8-bit weights times their scale."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2 or isinstance(module, torch.nn.Embedding):
        return None
    weight = weight.detach()
    if weight.dtype not in TYPES:
        return weight if weight.is_floating_point() else None
    scale = next((s for s in (getattr(module, name, None) for name in SCALES) if isinstance(s, (torch.Tensor, float))), 1.0)
    return weight.float() * (scale.float() if isinstance(scale, torch.Tensor) else scale)


def _weights(weight: torch.Tensor, kind):
    """(words, weight): as it is; in float8 too, with the scale of the whole, of each row, or none."""
    yield "", weight
    for words, over in (("", weight.abs().max()), (" for each row", weight.abs().amax(-1, keepdim=True)), (None, None)):
        scale = 1.0 if over is None else (over.float() / torch.finfo(kind).max).clamp_min(1e-12).to(weight.dtype)
        told = " and its weight too" if words is None else f" and its weight with one{words}"
        yield told, rounded(weight / scale, kind, True) * scale


def _passes(inside: Inside, target, x, weight, bias, kind, scale: float, saturating: bool) -> bool:
    made = F.linear(rounded(x / scale, kind, saturating) * scale, weight, None if bias is None else bias.detach().to(weight))
    return inside.closes(target, made.to(tensors_in(target)[0].dtype)) if made.numel() == tensors_in(target)[0].numel() else False


def rounded(x: torch.Tensor, kind: torch.dtype, saturating: bool) -> torch.Tensor:
    """`x` as an 8-bit type holds it. Beyond its range: cut off, or what a plain cast makes of it."""
    most = torch.finfo(kind).max
    return (x.clamp(-most, most) if saturating else x).to(kind).to(x.dtype)
