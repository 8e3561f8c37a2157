"""How the decoder's output becomes the picture: range, clamp, 8 bit, colour. Recomputed from what was decoded."""

from __future__ import annotations

import torch
from torch import Tensor

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.measure.pictures import round_to_8_bit

LEVEL = 1 / 255
OTHER = {"reference": "candidate", "candidate": "reference"}
FEW = 1e-4  # of the values (or two of them) may round the other way, where two computations of one value differ in the last place


def explain_conversion(finding: Finding, lab) -> list[Explanation]:
    """`uint8-truncation` and `clamp-missing`: one side's picture is the plain conversion of what was decoded, the other's that one."""
    if finding.place not in finding.candidate:
        return []
    for role in OTHER:
        made, plain = pictures(finding, role)
        values = decoded(lab, role)
        if values is not None and values.shape == made.shape and same_levels(plain, plainly(values)):
            source, unit = "the decoded values", values.double() / 2 + 0.5
        else:
            source, unit = f"the {OTHER[role]}'s picture", plain.double()
        found = _conversion(role, source, unit, made, plain)
        if found:
            return found
    return []


def _conversion(role: str, source: str, unit: Tensor, made: Tensor, plain: Tensor) -> list[Explanation]:
    bright = (unit * 255).nan_to_num()
    outside = bool(((bright.round() < 0) | (bright.round() > 255)).any())
    ways = [("uint8-truncation", bright.clamp(0, 255).floor(), "cuts off the fraction when it converts to 8 bit, instead of rounding")]
    if outside:
        wraps = "before it converts to 8 bit: what is out of range wraps around"
        ways += [("clamp-missing", bright.round() % 256, f"does not clamp {wraps}"),
                 ("clamp-missing", bright.trunc() % 256, f"neither clamps nor rounds {wraps}")]  # fmt: skip
    for id_, levels, words in ways:
        picture = levels / 255
        if not same_levels(made, picture) or same_levels(plain, picture):
            continue
        mean = float((made.double() - plain.double()).mean() * 255)
        return [Explanation(
            id=id_, stage="post_processing", statement=f"{role} {words}", departs=role,
            explained=explained_share(made.double(), plain.double(), picture),
            relation={"kind": "conversion", "side": role, "mean_levels": float(f"{mean:.3g}")},
            experiment=f"converted {source} in that way: equals the {role}'s picture, which is {mean:+.2f} levels from the other's on average",
            fix=f"convert with (x / 2 + 0.5).clamp(0, 1) · 255, rounded, in the {role}")]  # fmt: skip
    return []


def explain_blank(finding: Finding, lab) -> list[Explanation]:
    """`failure-masked-as-output`: a blank picture, or one frame again and again, although what was decoded is neither."""
    for role in OTHER:
        made = getattr(finding, role).get(finding.place)
        made = lab.own_value(role, finding.place) if made is None else made
        values = decoded(lab, role)
        if made is None or values is None or not bool(values.isfinite().all()):
            continue
        if blank(made) and not blank(plainly(values)):
            what = f"a blank picture, {made.flatten()[0].item():.3g} everywhere"
        elif still(made) and values.ndim == 5 and not still(plainly(values)):
            what = "one frame again and again"
        else:
            continue
        return [Explanation(
            id="failure-masked-as-output", stage="post_processing", departs=role, explained=1.0,
            statement=f"{role} returns {what}, although it decoded something else",
            relation={"kind": "blank", "side": role, "value": made.flatten()[0].item()},
            experiment=f"converted the decoded values as usual: that is a picture, and the {role} returns none of it",
            fix=f"let the {role} raise what went wrong instead of returning a placeholder")]  # fmt: skip
    return []


def explain_nan(finding: Finding, lab) -> list[Explanation]:
    """`nan-cast-to-black`: the decoded picture of a side has values that are not finite, and its picture is 0 there."""
    for role in OTHER:
        values, made = lab.traces[role].get("decoded"), lab.traces[role].get("image")
        if values is None or made is None or values.ndim not in (4, 5):
            continue
        bad = ~values.movedim(1, -1).isfinite()
        if not bool(bad.any()) or made.shape != bad.shape or bool(made[bad].any()) or not bool(made[bad].isfinite().all()):
            continue
        other = lab.traces[OTHER[role]].get("decoded")
        if other is not None and not bool(other.isfinite().all()):
            continue
        return [Explanation(
            id="nan-cast-to-black", stage="post_processing", departs=role, explained=1.0, equivalent=["vae-fp16-nan"],
            statement=f"{int(bad.sum())} of {bad.numel()} values of the {role}'s decoded picture are not finite, and its picture is black there",
            relation={"kind": "nonfinite", "side": role, "count": int(bad.sum())},
            experiment="looked at the picture where the decoded values are not finite: it is 0 there without exception",
            fix=f"stop on non-finite values before the {role} converts to 8 bit, and look for them from the latents on")]  # fmt: skip
    return []


def explain_channels(finding: Finding, lab) -> list[Explanation]:
    """Colour channels in another order."""
    if finding.place not in finding.candidate:
        return []
    reference, candidate = finding.pairs[0]
    if reference.shape[-1] != 3:
        return []
    for order in ((2, 1, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)):
        if lab.closes(finding, candidate, reference[..., list(order)]):
            return [Explanation(
                id="rgb-bgr", statement=f"candidate's colour channels are the reference's in the order {order}",
                relation={"kind": "channels", "permutation": list(order)}, explained=1.0,
                experiment="put the channels in that order: equals the candidate's image",
                fix="convert between RGB and BGR exactly once")]  # fmt: skip
    return []


def explain_watermark(finding: Finding, lab) -> list[Explanation]:
    """`watermark-added`: what a side adds to what it decoded is the same pattern for two different requests."""
    if finding.place not in finding.candidate:
        return []
    for role in OTHER:
        second = getattr(lab, "between", {}).get(role)
        made, plain = pictures(finding, role)
        first = residual(decoded(lab, role), made)
        again = None if second is None else residual(_last(second.get("decoded")), second.get("image"))
        if first is None or again is None or first[0].shape != again[0].shape or not same_levels(plain, plainly(decoded(lab, role))):
            continue
        free = first[1] & again[1]  # where neither picture is clamped
        pattern, repeat = first[0][free], again[0][free]
        size = float(pattern.norm())
        if not size or float(free.double().mean()) < 0.3 or float((pattern - pattern.mean()).norm()) < 0.5 * size:
            continue
        share = 1 - (float((pattern - repeat).norm()) / size) ** 2
        if share < 0.75 or float((pattern - repeat).abs().max()) > 1.02 * LEVEL:
            continue
        strength = float(pattern.abs().mean() * 255)
        return [Explanation(
            id="watermark-added", stage="post_processing", departs="unknown", explained=share,
            statement=f"{role} adds a fixed pattern of {strength:.2g} levels on average to every picture",
            relation={"kind": "fixed_pattern", "side": role, "mean_levels": strength},
            experiment=f"subtracted what the {role} decoded from its picture for two requests: the same pattern is left, up to 8-bit rounding",
            fix=f"switch the watermark of the {role} off, or on on both sides")]  # fmt: skip
    return []


def residual(values: Tensor | None, made: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """(picture minus plain conversion, where neither is clamped), both (B, [F,] H, W, C)."""
    if values is None or made is None or values.shape != made.shape:
        return None
    plain = plainly(values).double()
    inner = (plain > 0) & (plain < 1) & (made > 0) & (made < 1)
    return made.double() - plain, inner


def pictures(finding: Finding, role: str) -> tuple[Tensor, Tensor]:
    """(this side's picture, the other's)."""
    return getattr(finding, role)[finding.place], getattr(finding, OTHER[role])[finding.place]


def decoded(lab, role: str) -> Tensor | None:
    """What this side made its picture of, (B, [F,] H, W, C): the values it was given at `decoded`."""
    fed = {"candidate": "reference", "reference": "candidate", None: role}[lab.patient]
    return _last(lab.traces[fed].get("decoded"))


def _last(values: Tensor | None) -> Tensor | None:
    return None if values is None or values.ndim not in (4, 5) else values.float().movedim(1, -1)


def plainly(values: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped (diffusers image_processor.py, denormalize and postprocess)."""
    return (values / 2 + 0.5).clamp(0, 1)


def same_levels(a: Tensor, b: Tensor) -> bool:
    """The same picture at 8 bit, but for values that lie on the edge between two levels."""
    if a.shape != b.shape:
        return False
    apart = int((round_to_8_bit(a.float()) != round_to_8_bit(b.float())).sum())
    return apart <= max(2, FEW * a.numel())


def blank(picture: Tensor) -> bool:
    """One colour all over."""
    flat = picture.reshape(-1, picture.shape[-1])
    return not bool((flat != flat[0]).any())


def still(video: Tensor) -> bool:
    """(B, F, H, W, C) whose frames are all one."""
    return video.ndim == 5 and video.shape[1] > 1 and torch.equal(video[:, 1:], video[:, :1].expand_as(video[:, 1:]))
