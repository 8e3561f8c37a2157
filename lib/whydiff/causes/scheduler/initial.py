"""What the loop starts from: noise times the scheduler's starting sigma, or a picture mixed with noise at some noise level."""

from __future__ import annotations

import math

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.causes.scheduler import apart
from whydiff.causes.scheduler.config import covered
from whydiff.causes.scheduler.recipe import Recipe, recipe
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
    if None in levels.values() or not all(_same(starting_sigma(made), levels[role]) for role, made in own.items()):
        return []
    mine, theirs = own["reference"], own["candidate"]
    keys = apart.smallest(mine, theirs, lambda made: _same(starting_sigma(made), levels["reference"]))
    if keys is None or any(k.startswith(apart.ARGUMENT) for k in keys):
        return []
    id_, equivalent, departs = apart.name_of(keys, mine, theirs)
    first, other = number(round(levels["candidate"], 5)), number(round(levels["reference"], 5))
    return [Explanation(
        id=id_, equivalent=equivalent, departs=departs, stage=BY_ID[id_].stage, explained=1.0,
        statement=f"{apart.sentence(keys, mine, theirs)}: the noise is scaled by {first} instead of {other}",
        relation={"kind": "scheduler_config", "keys": list(keys), "reference": levels["reference"], "candidate": levels["candidate"]},
        experiment=f"rebuilt the candidate's scheduler with the reference's {', '.join(keys)}: its init_noise_sigma is {other} as on the "
                   f"reference; without, {first} as on the candidate",
        fix="build the candidate's scheduler from the reference's class and configuration",
        covers=covered(finding, lab, apart.mixed(theirs, mine, keys), theirs))]  # fmt: skip


def starting_sigma(made: Recipe | None) -> float | None:
    scheduler = made.build() if made is not None else None
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
    """`initial_latents` mix the same picture and noise at two levels of one schedule: strength is read in another way."""
    trace = lab.traces["reference"]
    noise, picture = trace.get("initial_noise"), trace.get("image_latents")
    if finding.place not in finding.candidate or noise is None or picture is None:
        return []
    reference, candidate = finding.reference[finding.place], finding.candidate[finding.place]
    if not (noise.numel() == picture.numel() == reference.numel()):
        return []
    mixes = [_mix(picture, noise, t) for t in (reference, candidate)]
    if None in mixes:
        return []
    found = [_level(mix, lab) for mix in mixes]
    if None in found or found[0] == found[1]:
        return []
    (_, b), (_, d) = mixes
    return [Explanation(
        id="img2img-strength-meaning", stage="schedule", departs="unknown", explained=1.0,
        statement=f"candidate mixes {number(round(d, 5))} of noise into the image's latents, the reference {number(round(b, 5))}: entries "
                  f"{found[1]} and {found[0]} of the schedule",
        relation={"kind": "starting_level", "reference": b, "candidate": d, "index_reference": found[0], "index_candidate": found[1]},
        experiment="solved both initial latents for the share of image and noise: both lie on the schedule, at other steps",
        fix="start both loops at the same noise level: int(num_inference_steps · strength) steps from the end of the list",
        covers={"timesteps"})]  # fmt: skip


def _mix(picture, noise, latents) -> tuple[float, float] | None:
    """(a, b) with latents = a picture + b noise, to rounding."""
    x, n, y = (t.flatten().double() for t in (picture, noise, latents))
    a, b = torch.linalg.lstsq(torch.stack([x, n], 1), y[:, None]).solution.flatten().tolist()
    return (a, b) if b > 0 and relative_l2(y, a * x + b * n) <= _CLOSE else None


def _level(mix: tuple[float, float], lab) -> int | None:
    """The index in the schedule whose noise share this is: sigma with 1 - sigma (flow), or sqrt(1 - alpha) with sqrt(alpha)."""
    a, b = mix
    trace = lab.traces["reference"]
    sigmas, alphas, timesteps = (trace.get(name) for name in ("sigmas", "alphas_cumprod", "timesteps"))
    if sigmas is not None and float(sigmas.max()) <= 1 + 1e-6 and abs(a + b - 1) <= 1e-4:
        return _nearest(sigmas.double(), b)
    if alphas is not None and timesteps is not None and abs(a * a + b * b - 1) <= 1e-4:
        return _nearest((1 - alphas.double()[timesteps.long().clamp(0, alphas.numel() - 1)]).sqrt(), b)
    if sigmas is not None and abs(a - 1) <= 1e-4:
        return _nearest(sigmas.double(), b)
    return None


def _nearest(levels: torch.Tensor, value: float) -> int | None:
    apart_ = (levels - value).abs()
    index = int(apart_.argmin())
    return index if float(apart_[index]) <= 1e-3 * max(1.0, abs(value)) else None
