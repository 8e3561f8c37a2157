"""What the loop starts from: noise times the scheduler's starting sigma, or a picture mixed with noise at some noise level."""

from __future__ import annotations

import contextlib
import math

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.causes.schedule import apart
from whydiff.causes.schedule.config import covered
from whydiff.causes.schedule.recipe import Recipe, recipe
from whydiff.causes.table import BY_ID
from whydiff.measure.compare import relative_l2

_CLOSE = 1e-5  # a factor is a quotient of float32 values


def explain(finding: Finding, lab) -> list[Explanation]:
    """Each side scales its noise by its own scheduler's starting sigma, and these differ by class or configuration."""
    own = {role: recipe(lab, role) for role in ("reference", "candidate")}
    if finding.place not in finding.candidate or None in own.values():
        return []
    noise = lab.traces["reference"].get("initial_noise")
    start = finding.reference[finding.place]
    levels = {role: _factor(noise, getattr(finding, role)[finding.place]) for role in own}
    if noise is None:  # not recorded: only the ratio of the two can be seen
        ratio, sigma = _factor(start, finding.candidate[finding.place]), starting_sigma(own["reference"])
        levels = {"reference": sigma, "candidate": sigma * ratio if ratio and sigma else None}
    # In the patient's forced run its scheduler holds the other side's sigmas: what differs is how it makes one number of them.
    sigmas = next((held for held in (None, lab.traces["reference"].get("sigmas"))
                   if None not in levels.values() and all(_same(starting_sigma(own[role], held), levels[role]) for role in own)), levels)  # fmt: skip
    if sigmas is levels:
        return []
    mine, theirs = own["reference"], own["candidate"]
    keys = apart.smallest(mine, theirs, lambda made: _same(starting_sigma(made, sigmas), levels["reference"]))
    if keys is None or any(k.startswith(apart.ARGUMENT) for k in keys):
        return []
    id_, equivalent, departs = apart.name_of(keys, mine, theirs)
    at = "" if sigmas is None else "on the reference's sigmas, "
    first, other = number(round(levels["candidate"], 5)), number(round(levels["reference"], 5))
    return [Explanation(
        id=id_, equivalent=equivalent, departs=departs, stage=BY_ID[id_].stage, explained=1.0,
        statement=f"{apart.sentence(keys, mine, theirs)}: {at}the noise is scaled by {first} instead of {other}",
        relation={"kind": "scheduler_config", "keys": list(keys), "reference": levels["reference"], "candidate": levels["candidate"]},
        experiment=f"rebuilt the candidate's scheduler with the reference's {', '.join(keys)}: {at}its init_noise_sigma is {other} as on the "
                   f"reference; without, {first} as on the candidate",
        fix="build the candidate's scheduler from the reference's class and configuration",
        covers=covered(finding, lab, apart.mixed(theirs, mine, keys), theirs))]  # fmt: skip


def starting_sigma(made: Recipe | None, sigmas: torch.Tensor | None = None) -> float | None:
    """What a rebuilt scheduler scales the noise by; with `sigmas`, of these instead of its own."""
    scheduler = made.build() if made is not None else None
    if sigmas is not None and isinstance(getattr(scheduler, "sigmas", None), torch.Tensor):
        with contextlib.suppress(AttributeError):
            scheduler.sigmas = sigmas.clone()
    value = getattr(scheduler, "init_noise_sigma", None)
    return None if value is None else float(value)


def _factor(noise: torch.Tensor | None, latents: torch.Tensor) -> float | None:
    """The one factor between the noise and the latents that a loop starts from; None where that is not all."""
    if noise is None or noise.numel() != latents.numel():
        return None
    a, b = noise.flatten().double(), latents.flatten().double()
    factor = float(a @ b) / float(a @ a) if a.any() else 0.0
    return factor if factor > 0 and relative_l2(b, factor * a) <= _CLOSE else None


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=_CLOSE)


def explain_strength(finding: Finding, lab) -> list[Explanation]:
    """`initial_latents` mix one picture and one noise at two levels of a schedule: strength is read in another way.

    With a picture x, reference a x + b n and candidate c x + d n, so candidate = (c/a) reference + (d - b c/a) n: the two
    numbers must be those of two entries of the schedule. Where shares sum to one (flow) several pairs of entries fit; the
    picture's own latents, where they are known, settle which.
    """
    noise = lab.traces["reference"].get("initial_noise")
    if finding.place not in finding.candidate or noise is None:
        return []
    reference, candidate = finding.reference[finding.place], finding.candidate[finding.place]
    mix = _mix(reference, noise, candidate) if noise.numel() == reference.numel() else None
    levels = _levels(lab)
    if mix is None or not levels or abs(mix[0]) <= _CLOSE:  # nothing of the reference, so no picture, is in the candidate's
        return []
    found = [(i, j) for i, (a, b) in enumerate(levels) for j, (c, d) in enumerate(levels) if i != j and a > 1e-6
             and abs(c / a - mix[0]) <= 1e-4 * max(1.0, c / a) and abs(d - b * c / a - mix[1]) <= 1e-4 * max(1.0, d)]  # fmt: skip
    picture = lab.traces["reference"].get("image_latents")
    if picture is not None and picture.numel() == noise.numel():
        share = _mix(picture, noise, reference)
        found = [(i, j) for i, j in found if share is not None and abs(share[1] - levels[i][1]) <= 1e-3]
    if not found:
        return []
    settled = len({(round(levels[i][1], 4), round(levels[j][1], 4)) for i, j in found}) == 1
    (i, j), b, d = found[0], levels[found[0][0]][1], levels[found[0][1]][1]
    words = (f"candidate mixes {number(round(d, 5))} of noise into the image's latents, the reference {number(round(b, 5))}: entries "
             f"{j} and {i} of the schedule") if settled else (
             f"candidate mixes {'more' if mix[1] > 0 else 'less'} noise into the image's latents, that of another entry of the schedule")  # fmt: skip
    solved = {"reference": b, "candidate": d, "index_reference": i, "index_candidate": j} if settled else {"mix": list(mix)}
    return [Explanation(
        id="img2img-strength-meaning", stage="schedule", departs="unknown", explained=1.0, statement=words,
        relation={"kind": "starting_level"} | solved,
        experiment="solved the candidate's initial latents for the shares of the reference's and of the noise: they are those of two entries of one "
                   "schedule, with nothing left over",
        fix="start both loops at the same noise level: int(num_inference_steps · strength) steps from the end of the list",
        covers={"timesteps"})]  # fmt: skip


def _mix(picture, noise, latents) -> tuple[float, float] | None:
    """(a, b) with latents = a picture + b noise, to rounding."""
    x, n, y = (t.flatten().double() for t in (picture, noise, latents))
    a, b = torch.linalg.lstsq(torch.stack([x, n], 1), y[:, None]).solution.flatten().tolist()
    return (a, b) if abs(b) > 1e-4 and relative_l2(y, a * x + b * n) <= _CLOSE else None


def _levels(lab) -> list[tuple[float, float]]:
    """(share of the image, share of the noise) at each entry: 1 - sigma and sigma (flow), sqrt(alpha) and sqrt(1 - alpha), or 1 and sigma."""
    trace = lab.traces["reference"]
    sigmas, alphas, timesteps = (trace.get(name) for name in ("sigmas", "alphas_cumprod", "timesteps"))
    if sigmas is not None and float(sigmas.max()) <= 1 + 1e-6:
        return [(1 - s, s) for s in sigmas.double().tolist()]
    if sigmas is not None and _adds(lab):
        return [(1.0, s) for s in sigmas.double().tolist()]
    if alphas is None or timesteps is None:
        return []
    bar = alphas.double()[timesteps.long().clamp(0, alphas.numel() - 1)]
    return list(zip(bar.sqrt().tolist(), (1 - bar).sqrt().tolist()))


def _adds(lab) -> bool:
    """Do latents grow with sigma (image + sigma · noise, as k-diffusion's samplers have them)?"""
    sigma = starting_sigma(recipe(lab, "reference"))
    return sigma is not None and sigma > 1.5
