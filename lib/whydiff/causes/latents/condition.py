"""What a network receives beside the latents (masks, encoded pictures): its order, and by what its latents are scaled."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number, same_parameter
from whydiff.causes.fits import affine


def explain(finding: Finding, lab) -> list[Explanation]:
    """Only channels beyond the latents' own differ: in another order, or by a constant (image-to-video, inpainting, control)."""
    pairs = finding.pairs
    extra = condition_channels(finding, lab)
    if extra is None or not pairs:
        return []
    axis, own = extra
    mine, theirs = ([t.narrow(axis, own, t.shape[axis] - own) for t in side] for side in zip(*pairs, strict=True))
    # Recordings: once the first step has received something else, later latents differ, too; the condition stays what it is.
    agree = [lab.closes(finding, a.narrow(axis, 0, own), b.narrow(axis, 0, own)) for a, b in pairs]
    if not agree[0] or (lab.patient is not None and not all(agree)):
        return []
    return (_order(finding, lab, mine, theirs, axis, own) or _scaled(finding, lab, mine, theirs, axis, own)
            or _standardised(finding, lab, mine, theirs, axis, own))  # fmt: skip


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


def _standardised(finding, lab, mine, theirs, axis: int, own: int) -> list[Explanation]:
    """As many condition channels as the VAE has latent channels, standardised by its mean and deviation another number of times."""
    stated = vae_statistics(lab)
    size = mine[0].shape[axis]
    if stated is None or stated[0].numel() > size:
        return []
    mean, std = (t.reshape([-1 if i == axis else 1 for i in range(mine[0].ndim)]) for t in stated)
    ways = {  # of what the reference has, what the candidate has
        "divided by latents_std": lambda x: x / std, "times latents_std": lambda x: x * std,
        "divided by latents_std twice": lambda x: x / std**2, "times latents_std twice": lambda x: x * std**2,
        "less latents_mean and divided by latents_std": lambda x: (x - mean) / std,
        "times latents_std and plus latents_mean": lambda x: x * std + mean,
        "less latents_mean": lambda x: x - mean, "plus latents_mean": lambda x: x + mean,
        "less latents_mean and times latents_std": lambda x: (x - mean) * std,
        "divided by latents_std and plus latents_mean": lambda x: x / std + mean}  # fmt: skip
    for first in {size - mean.numel(), 0}:  # masks stand before the latents, or after them
        for words, way in ways.items():
            made = [torch.cat([a.narrow(axis, 0, first).double(), way(a.narrow(axis, first, mean.numel()).double()),
                               a.narrow(axis, first + mean.numel(), size - first - mean.numel()).double()], axis) for a in mine]  # fmt: skip
            if not all(lab.closes(finding, b, m.to(b.dtype)) and not lab.closes(finding, b, a) for a, b, m in zip(mine, theirs, made)):
                continue
            channels = [own + first, own + first + mean.numel() - 1]
            return [Explanation(
                id="condition-latent-scaled-twice", stage="latent_handling", departs="unknown", explained=1.0,
                statement=f"condition channels {channels[0]} to {channels[1]} of the candidate's network input are the reference's {words} of the "
                          "VAE; the others are equal",
                relation={"kind": "standardised", "how": words, "channels": channels},
                experiment=f"took the reference's condition channels {words}: equals the candidate's network input at {len(mine)} place(s)",
                fix="standardise the condition latents by vae.config.latents_mean and latents_std once, as the model was trained")]  # fmt: skip
    return []


def vae_statistics(lab) -> tuple[torch.Tensor, torch.Tensor] | None:
    """latents_mean and latents_std that a side's VAE states, float64 vectors."""
    for role in ("reference", "candidate"):
        known = lab.component_config(role, "vae")
        mean, std = ((known[1].get(key) if known else None) for key in ("latents_mean", "latents_std"))
        if isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)) and len(mean) == len(std) and all(std):
            return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    return None


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
