"""What each side's network receives of its own latents, step by step: are they divided as sigma-space schedulers ask?

A comparison within each side, so that it holds in recordings, too, whose latents differ from the second step on.
"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding, number, same_parameter
from whydiff.causes.fits import affine

_OTHER = {"reference": "candidate", "candidate": "reference"}
_CLOSE = 1e-4  # sigmas are float32, and so is what was divided by them


def explain(finding: Finding, lab) -> list[Explanation]:
    """`scale-model-input-missing`: one side passes its latents as they are, the other divided by sqrt(sigma² + 1).

    x / sqrt(sigma² + 1): Karras et al. 2022 (arXiv 2206.00364), table 1, c_in with unit data variance.
    """
    if lab.patient is not None or finding.place not in finding.candidate:
        return []  # live sides are compared on equal latents, which says it without this detour
    found = {role: factors(lab, role) for role in ("reference", "candidate")}
    if not all(found.values()):
        return []
    for lacking in ("candidate", "reference"):
        bare, scaled = found[lacking], found[_OTHER[lacking]]
        wanted = _divisors(lab, _OTHER[lacking], len(scaled))
        if wanted is None or not all(same_parameter(f, 1) for f in bare) or all(same_parameter(w, 1) for w in wanted):
            continue
        if not all(abs(f * w - 1) <= _CLOSE for f, w in zip(scaled, wanted)):
            continue
        shown = ", ".join(number(float(f"{1 / f:.5g}")) for f in scaled[:4])
        return [Explanation(
            id="scale-model-input-missing", stage="rng_noise", departs=lacking, explained=1.0,
            statement=f"{lacking} does not divide the latents by sqrt(sigma² + 1) before its network; the {_OTHER[lacking]} does",
            relation={"kind": "scale_model_input", "side": lacking, "factors": [float(f"{1 / f:.6g}") for f in scaled[:64]]},
            experiment=f"compared what each network receives with that side's own latents: the {lacking}'s are equal at all {len(bare)} steps, "
                       f"the {_OTHER[lacking]}'s are divided by {shown}, which is sqrt(sigma² + 1) of each step",
            fix=f"call scheduler.scale_model_input(latents, t) in the {lacking}")]  # fmt: skip
    return []


def factors(lab, role: str) -> list[float]:
    """For each step the one factor between a side's latents and what its network receives; empty where that is not all."""
    trace, found = lab.traces[role], []
    steps = sorted({p.step for p in trace if p.probe == "latent_model_input" and p.step is not None})
    for step in steps:
        before = trace.get("initial_latents") if step == 0 else trace.get("latents", step - 1)
        received = next(trace[p] for p in trace.at("latent_model_input") if p.step == step)
        fit = None if before is None or before.shape != received.shape else affine(before, received, channels=False)
        if fit is None or not same_parameter(fit.offset.item(), 0) or fit.scale.item() <= 0:
            return []
        found.append(fit.scale.item())
    return found if steps == list(range(len(steps))) else []


def _divisors(lab, role: str, count: int) -> list[float] | None:
    """sqrt(sigma² + 1) at each step of a side, the loop beginning where the run says, or at the list's start."""
    trace = lab.traces[role]
    sigmas, calls = trace.get("sigmas"), trace.producer.get("calls")
    noted = (calls.get("steps") if isinstance(calls, dict) else None) or [{}]
    begin = noted[0].get("index") or 0
    if sigmas is None or begin + count > sigmas.numel():
        return None
    return [(float(sigma) ** 2 + 1) ** 0.5 for sigma in sigmas.double()[begin : begin + count]]
