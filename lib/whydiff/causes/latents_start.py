"""What the loop starts from, and what the network receives of it at each step: is it scaled as the scheduler asks?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share, number, same_parameter
from whydiff.causes.fits import affine


def explain_start(finding: Finding, lab) -> list[Explanation]:
    """`init-noise-sigma-missing`: one constant between both sides' initial latents (or noise)."""
    if finding.place not in finding.candidate or lab.traces["reference"].at("image_latents"):
        return []  # latents of a picture are mixed with noise, so a constant means something else there
    reference, candidate = finding.reference[finding.place], finding.candidate[finding.place]
    fit = affine(reference, candidate, channels=False)
    if fit is None or not same_parameter(fit.offset.item(), 0) or not fit.scale.item() > 0 or same_parameter(fit.scale.item(), 1):
        return []
    factor = fit.scale.item()
    sigma, source = first_sigma(lab, factor)
    proof = f"multiplied the reference's {finding.probe} by {number(float(f'{factor:.6g}'))}: equals the candidate's"
    if sigma is not None:
        proof += f"; that is {'1 / ' if factor < 1 else ''}{number(float(f'{sigma:.6g}'))}, {source}"
    lacking = "candidate" if factor < 1 else "reference"
    known = sigma is not None
    more = f"; only one side scales by the scheduler's first sigma ({number(float(f'{sigma:.6g}'))})" if known else ""
    return [Explanation(
        id="init-noise-sigma-missing", stage="rng_noise",
        statement=f"candidate's {finding.probe.replace('_', ' ')} are the reference's times {number(float(f'{factor:.6g}'))}{more}",
        relation={"kind": "scale", "factor": factor} | ({"init_noise_sigma": sigma} if known else {}),
        explained=explained_share(reference.double(), candidate.double(), candidate.double() / factor), experiment=proof,
        departs=lacking if known else "unknown", fix="multiply the initial noise by scheduler.init_noise_sigma, once, on both sides")]  # fmt: skip


def first_sigma(lab, factor: float) -> tuple[float | None, str]:
    """The scheduler's starting scale that a factor, or its inverse, equals: sigma, or sqrt(sigma² + 1) (Karras et al. 2022)."""
    for role in ("reference", "candidate"):
        sigmas = lab.traces[role].get("sigmas")
        found = [] if sigmas is None or not sigmas.numel() else [(sigmas.max().item(), "the largest sigma"),
                                                                 ((sigmas.max().item() ** 2 + 1) ** 0.5, "sqrt(sigma² + 1)")]  # fmt: skip
        side = lab.sides[role]
        own = getattr(getattr(side.subject, "scheduler", None), "init_noise_sigma", None) if side is not None else None
        found = ([(float(own), "the scheduler's init_noise_sigma")] if own is not None else []) + found
        for value, words in found:
            if any(value and abs(f / value - 1) < 1e-3 for f in (factor, 1 / factor)):
                return value, words
    return None, ""


def explain_model_input(finding: Finding, lab) -> list[Explanation]:
    """`scale-model-input-missing`: the latents reach one network divided by sqrt(sigma² + 1), and the other as they are."""
    if finding.place not in finding.candidate:
        return []
    ratios: dict[int, float] = {}
    for place in finding.places:
        if place not in finding.candidate or place.step is None:
            return []
        fit = affine(finding.reference[place], finding.candidate[place], channels=False)
        if fit is None or not same_parameter(fit.offset.item(), 0) or fit.scale.item() <= 0:
            return []
        ratios[place.step] = fit.scale.item()
    sigmas = next((s for role in ("reference", "candidate") if (s := lab.traces[role].get("sigmas")) is not None), None)
    if sigmas is None or max(ratios) >= sigmas.numel():
        return []
    for power, lacking in ((0.5, "candidate"), (-0.5, "reference")):
        expected = {step: (sigmas[step].item() ** 2 + 1) ** power for step in ratios}
        if all(abs(ratios[step] / expected[step] - 1) < 1e-4 for step in ratios) and any(abs(r - 1) > 1e-4 for r in ratios.values()):
            shown = ", ".join(number(float(f"{ratios[s]:.5g}")) for s in sorted(ratios)[:4])
            return [Explanation(
                id="scale-model-input-missing", stage="rng_noise", departs=lacking,
                statement=f"{lacking} does not divide the latents by sqrt(sigma² + 1) before its network; the other side does",
                relation={"kind": "scale_model_input", "side": lacking, "factors": [float(f"{ratios[s]:.6g}") for s in sorted(ratios)]},
                explained=1.0, experiment=f"the ratio of both inputs at each step ({shown}) is sqrt(sigma² + 1) of that step; undoing it "
                "makes them equal", fix=f"call scheduler.scale_model_input(latents, t) in the {lacking}")]  # fmt: skip
    return []


def explain_condition(finding: Finding, lab) -> list[Explanation]:
    """Only channels beyond the latents' own differ: in another order, or by a constant (image-to-video, inpainting, control)."""
    pairs = finding.pairs
    extra = condition_channels(finding, lab)
    if extra is None or not pairs:
        return []
    axis, own = extra
    mine, theirs = ([t.narrow(axis, own, t.shape[axis] - own) for t in side] for side in zip(*pairs, strict=True))
    if any(not lab.closes(finding, a.narrow(axis, 0, own), b.narrow(axis, 0, own)) for a, b in pairs):
        return []
    found = _order(finding, lab, mine, theirs, axis, own) or _scaled(finding, lab, mine, theirs, axis, own)
    return found


def condition_channels(finding: Finding, lab) -> tuple[int, int] | None:
    """(axis, first condition channel) of the network's input, where it has more channels than the latents."""
    place = finding.place
    if finding.probe != "latent_model_input" or place not in finding.candidate:
        return None
    latents = next((t for role in ("reference", "candidate") for name in ("latents", "initial_latents")
                    if (t := lab.traces[role].get(name, 0) if name == "latents" else lab.traces[role].get(name)) is not None), None)  # fmt: skip
    received = finding.reference[place]
    if latents is None or latents.ndim != received.ndim:
        return None
    axis = 1 if received.ndim in (4, 5) else received.ndim - 1
    same = [i for i in range(1, received.ndim) if i != axis]
    if latents.shape[axis] >= received.shape[axis] or any(latents.shape[i] != received.shape[i] for i in same):
        return None
    return axis, latents.shape[axis]


def _order(finding, lab, mine, theirs, axis: int, own: int) -> list[Explanation]:
    """The condition channels in another order; all of them, so that equal ones cannot mislead."""
    size = mine[0].shape[axis]
    a, b = (torch.cat([t.movedim(axis, 0).reshape(size, -1) for t in side], 1).double() for side in (mine, theirs))
    order: list[int] = []
    for i in range(size):
        free = [j for j in range(size) if j not in order]
        nearest = min(free, key=lambda j: (float((b[i] - a[j]).norm()), abs(i - j)))
        order.append(nearest)
    if order == list(range(size)) or not lab.closes(finding, b, a[order]):
        return []
    return [Explanation(
        id="condition-mask-layout", stage="latent_handling", departs="unknown",
        statement=f"the {size} condition channels of the candidate's network input are the reference's in another order",
        relation={"kind": "permuted", "axis": axis, "first": own, "order": order}, explained=1.0,
        experiment=f"put the reference's condition channels in the order {order}: equals the candidate's at {len(mine)} place(s)",
        fix="concatenate mask and image latents, and lay the mask's frames out in channels, in the order the model was trained with")]  # fmt: skip


def _scaled(finding, lab, mine, theirs, axis: int, own: int) -> list[Explanation]:
    """Some condition channels times a constant; the rest equal."""
    parts = [torch.stack([t.select(axis, i) for t in side]).double() for side in (mine, theirs) for i in range(side[0].shape[axis])]
    size = len(parts) // 2
    off = [i for i in range(size) if not torch.equal(parts[i], parts[size + i]) and bool(parts[i].any())]
    if not off or any(not lab.closes(finding, parts[i], parts[size + i]) for i in range(size) if i not in off and bool(parts[i].any())):
        return []
    fit = affine(torch.stack([parts[i] for i in off]).float(), torch.stack([parts[size + i] for i in off]).float(), channels=False)
    if fit is None or not same_parameter(fit.offset.item(), 0) or fit.scale.item() <= 0:
        return []
    factor, known = fit.scale.item(), vae_factor(lab)
    match = known is not None and any(abs(f / known - 1) < 1e-3 for f in (factor, 1 / factor))
    channels = [own + i for i in off]
    span = f"{channels[0]} to {channels[-1]}" if channels == list(range(channels[0], channels[-1] + 1)) else ", ".join(map(str, channels))
    words = f" ({'' if factor > 1 == (known > 1) else '1 / '}the VAE's scaling factor {number(known)})" if match else ""
    return [Explanation(
        id="condition-latent-scaled-twice", stage="latent_handling", departs="unknown",
        statement=f"condition channels {span} of the candidate's network input are the reference's times "
                  f"{number(float(f'{factor:.6g}'))}{words}; the others are equal",
        relation={"kind": "scale", "factor": factor, "channels": channels}, explained=1.0,
        experiment="divided those channels by the factor: equals the reference's network input at every place",
        fix="scale the condition latents by vae.config.scaling_factor exactly once, or not at all, as the model was trained")]  # fmt: skip


def vae_factor(lab) -> float | None:
    for role in ("reference", "candidate"):
        known = lab.component_config(role, "vae")
        factor = known[1].get("scaling_factor") if known else None
        if isinstance(factor, (int, float)) and factor:
            return float(factor)
    return None


def explain_image_latents(finding: Finding, lab) -> list[Explanation]:
    """Encoded pictures times a constant that the VAE's scaling factor gives, or plus its shift."""
    if finding.place not in finding.candidate:
        return []
    factor, (a, b) = vae_factor(lab), finding.pairs[0]
    fit = affine(a, b, channels=False)
    if factor is None or fit is None:
        return []
    scale, offset = fit.scale.item(), fit.offset.item()
    if same_parameter(offset, 0) and any(abs(f / factor - 1) < 1e-3 for f in (scale, 1 / scale if scale else 0)):
        return [Explanation(
            id="condition-latent-scaled-twice", stage="latent_handling", departs="unknown", explained=1.0,
            statement=f"candidate's encoded image is the reference's times {number(float(f'{scale:.6g}'))}; the VAE's factor is {number(factor)}",
            relation={"kind": "scale", "factor": scale}, experiment="divided it by that: equals the reference's",
            fix="scale the encoded image by vae.config.scaling_factor exactly once")]  # fmt: skip
    return []


