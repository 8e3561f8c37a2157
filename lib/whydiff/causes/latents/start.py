"""What the loop starts from, and what the network receives of it at each step: is it scaled as the scheduler asks?"""

from __future__ import annotations

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
