"""Is the prediction used with the right sign, and does the decoder receive rightly scaled latents?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number, same_parameter
from whydiff.measure.compare import relative_l2


def explain_sign(finding: Finding, lab) -> list[Explanation]:
    """The candidate's prediction is the reference's with the other sign."""
    reference, candidate = finding.stacked()
    left = relative_l2(candidate, -reference)
    if not all(lab.closes(finding, a, -b) for a, b in finding.pairs):
        return []
    return [Explanation(
        id="velocity-sign", stage="model_forward", statement="the sign of the candidate's prediction is reversed",
        relation={"kind": "sign", "factor": -1.0}, explained=1.0 - (left / finding.difference) ** 2,
        experiment=f"reversed the sign of the candidate's {finding.probe}: equals the reference's",
        fix="negate the network's output before the scheduler (velocity is noise minus image in flow matching)")]  # fmt: skip


def explain_guidance(finding: Finding, lab) -> list[Explanation]:
    """`noise_pred` combined with another scale, or with its two branches exchanged: uncond + scale · (cond − uncond)."""
    found = explain_sign(finding, lab)
    if found:
        return found
    trace = lab.traces["reference"]
    cond = [trace.get("noise_pred_text", p.step, "cond") for p in finding.places]
    uncond = [trace.get("noise_pred_uncond", p.step, "uncond") for p in finding.places]
    if any(t is None for t in (*cond, *uncond)):
        return []
    c, u = (torch.cat([t.flatten().to(torch.float64) for t in ts]) for ts in (cond, uncond))
    reference, candidate = finding.stacked()
    if c.shape != reference.shape:
        return []
    mine, left_mine = _fit_scale(reference, c, u)
    theirs, left_theirs = _fit_scale(candidate, c, u)
    limit = 64 * torch.finfo(torch.float32).eps * max(1.0, abs(mine), abs(theirs))
    if left_mine > limit or left_theirs > limit:
        return []
    share = 1.0 - (left_theirs / (finding.difference or 1.0)) ** 2
    if same_parameter(theirs, 1 - mine):
        return [Explanation(
            id="cond-uncond-swapped", statement="candidate exchanges the conditional and the unconditional prediction",
            relation={"kind": "swapped"}, explained=share, stage="guidance",
            experiment="combined the reference's two predictions the other way round: equals the candidate's noise_pred",
            fix="check the order in which the batch is stacked and split")]  # fmt: skip
    return [Explanation(
        id="guidance-scale", stage="guidance", departs="unknown",
        statement=f"candidate combines the two predictions with scale {number(round(theirs, 5))}, the reference with {number(round(mine, 5))}",
        relation={"kind": "setting", "setting": "guidance_scale", "reference": mine, "candidate": theirs}, explained=share,
        experiment="combined the reference's two predictions with the fitted scale: equals the candidate's noise_pred",
        fix=f"pass guidance_scale={number(round(mine, 5))} to both sides")]  # fmt: skip


def _fit_scale(prediction, cond, uncond) -> tuple[float, float]:
    """The scale s of uncond + s · (cond − uncond) nearest to the prediction, and the relative distance left."""
    direction = cond - uncond
    scale = (direction @ (prediction - uncond) / (direction @ direction)).item() if direction.norm() else 1.0
    return scale, relative_l2(prediction, uncond + scale * direction)


def explain_vae_latents(finding: Finding, lab) -> list[Explanation]:
    """latents / scaling_factor + shift_factor with another factor or shift (diffusers pipeline_flux.py, end of __call__)."""
    config = lab.config("vae", "scaling_factor")
    if config is None:
        return []
    scaling, shift = config.get("scaling_factor"), config.get("shift_factor") or 0.0
    own = lab.config_of("candidate", "vae", "scaling_factor")
    reference, candidate = finding.stacked()
    ones = torch.ones_like(reference)
    solution = torch.linalg.lstsq(torch.stack([reference, ones], 1), candidate[:, None]).solution.flatten()
    factor, offset = (value.item() for value in solution)
    predicted = factor * reference + offset
    left = relative_l2(candidate, predicted)
    if not all(lab.closes(finding, b, (factor * a.double() + offset).to(b.dtype)) for a, b in finding.pairs) or not factor:
        return []
    theirs, their_shift = scaling / factor, offset + factor * shift
    share = 1.0 - (relative_l2(reference, (candidate - offset) / factor) / (finding.difference or 1.0)) ** 2
    tolerance = 64 * torch.finfo(torch.float32).eps + left
    found = []
    proof = "undid it on the candidate's vae_latents (latents / {} + {}): equals the reference's"
    proof = proof.format(number(round(theirs, 6)), number(round(their_shift, 6)) if abs(their_shift) > tolerance else 0)
    said = None if own is None else (own.get("scaling_factor"), own.get("shift_factor") or 0.0)
    if said == (scaling, shift) and not same_parameter(theirs, 1) and abs(theirs / scaling - 1) > tolerance:
        lab.notes.append(f"At vae_latents the candidate's values are the reference's times {number(round(factor, 5))} plus "
                         f"{number(round(offset, 5))}, although both VAEs state the same factors.")  # fmt: skip
        return []
    if said is not None and said != (scaling, shift):
        return _other_config(finding, (scaling, shift), said, (theirs, their_shift), share)
    if abs(theirs / scaling - 1) > tolerance:
        missing = same_parameter(theirs, 1)
        ids = ["vae-scaling-factor", "vae-scaling-missing"]
        words = "are not divided by scaling_factor" if missing else f"are divided by {number(round(theirs, 6))}"
        found.append(Explanation(
            id=ids[0], equivalent=ids[1:] if missing else [], explained=share, experiment=proof,
            statement=f"candidate's latents {words} before decoding; the reference divides by {number(scaling)}",
            relation={"kind": "vae_scaling", "reference": scaling, "candidate": theirs},
            fix=f"divide the latents by vae.config.scaling_factor = {number(scaling)}"))  # fmt: skip
    if abs(their_shift - shift) > tolerance * max(1.0, abs(shift)):
        words = "does not add shift_factor" if same_parameter(their_shift, 0) else f"adds {number(round(their_shift, 6))}"
        found.append(Explanation(
            id="vae-shift-missing", explained=share, experiment=proof,
            statement=f"candidate {words} before decoding; the reference adds {number(shift)}",
            relation={"kind": "vae_shift", "reference": shift, "candidate": their_shift},
            fix=f"add vae.config.shift_factor = {number(shift)} after dividing by scaling_factor"))  # fmt: skip
    return found


def _other_config(finding: Finding, mine, theirs, fitted, share: float) -> list[Explanation]:
    """The candidate scales as its own vae.config says, and that says something else than the reference's."""
    found = []
    for id_, key, a, b, fit in zip(("vae-scaling-factor", "vae-shift-missing"), ("scaling_factor", "shift_factor"), mine, theirs, fitted):
        if a != b and same_parameter(fit, b):
            found.append(Explanation(
                id=id_, statement=f"candidate's vae.config.{key} is {number(b)}, the reference's {number(a)}", explained=share,
                relation={"kind": key, "reference": a, "candidate": b},
                experiment=f"undid {key} {number(b)} and applied {number(a)} to the candidate's {finding.probe}: equals the reference's",
                fix=f"set vae.config.{key} = {number(a)} in the candidate, if that is the checkpoint's own", departs="unknown"))  # fmt: skip
    return found


def explain_image(finding: Finding, lab) -> list[Explanation]:
    """Colour channels in another order."""
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
