"""Do both sides walk the same noise levels, and which settings explain the ones they walk?"""

from __future__ import annotations

from whydiff.audits.dimension_audit import stated
from whydiff.audits.judge import both, judged, lies_in, sentences
from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.audits.unspecified import left_to_defaults
from whydiff.causes.finding import number
from whydiff.causes.schedule.solved import expert_switch, fits, shift_of, simplest_pair
from whydiff.formulas.schedule_switch import solve_switch

NAME = "schedule_math"
QUESTION = "Do both sides walk the same noise levels, and which settings explain the levels they walk?"

concerns = lies_in(stages=("schedule",), probes=("sigmas", "timesteps", "alphas_cumprod"))


def rows_of(entry: dict) -> bool:
    return concerns(entry) or entry.get("probe") == "model_input/timestep"


def audit(study) -> AuditResult:
    """Sigmas and timesteps side by side, solved backwards for grid, shift and end points; the switch of experts."""
    sigmas = {role: as_sigmas(study, role) for role in ("reference", "candidate")}
    solved = {role: [] if values is None else fits(values, study.lab) for role, values in sigmas.items()}
    switches = {role: expert_switch(study.lab, role) for role in sigmas}
    limit = boundary(study)
    findings = [*sentences(study, concerns, rows_of), *_settings(solved), *_switch(sigmas, switches, limit), *left_to_defaults(study, "schedule")]
    return AuditResult(
        NAME,
        QUESTION,
        judged(study, concerns, rows_of),
        tuple(findings),
        (
            "step",
            "sigma, reference",
            "sigma, candidate",
            "timestep, reference",
            "timestep, candidate",
            "network, reference",
            "network, candidate",
        ),
        tuple(_steps(study, sigmas)),
        {
            "sigmas": {r: None if v is None else v.double().numpy() for r, v in sigmas.items()},
            "switches": switches,
            "boundary": limit,
            "tried": Table(("side", "schedule tried", "explains it", "left over"), tuple(tried(solved))),
        },
    )


def as_sigmas(study, role: str):
    """Sigmas as recorded, or timesteps / 1000 where no sigmas were."""
    values = both(study, "sigmas")[role]
    if values is None:
        timesteps = both(study, "timesteps")[role]
        values = None if timesteps is None else timesteps.double() / 1000
    return values


def boundary(study) -> float | None:
    """The sigma below which the second expert runs: from the configuration of a live pipeline (Wan2.2), else stated or the
    default of a framework that the case names; or None."""
    for side in study.lab.sides.values():
        value = getattr(getattr(side.subject, "config", None), "boundary_ratio", None) if side is not None else None
        if value is not None:
            return float(value)
    for role in study.lab.sides:
        value = stated(study, role).get("boundary_ratio", {}).get("value")
        if isinstance(value, (int, float)):
            return float(value)
    return None


def tried(solved):
    """Every grid and shift convention tried on each side, best first: (side, words, explains, residual)."""
    for role, options in solved.items():
        for fit in options:
            yield role, fit.words, fit.explains, fit.residual


def _settings(solved):
    """Which settings reproduce each side's sigmas; of several that do, the pair that differs least."""
    explaining = {role: [fit for fit in options if fit.explains] for role, options in solved.items()}
    for role, options in solved.items():
        if options and not explaining[role]:
            yield Sentence(f"none of the schedules tried gives the {role}'s sigmas")
    pair = simplest_pair(explaining["reference"], explaining["candidate"])
    if pair is None:
        for role, options in explaining.items():
            if options:
                yield Sentence(f"the {role}'s sigmas are {options[0].words}")
        return
    reference, candidate = pair
    if reference.words == candidate.words:
        yield Sentence(f"both sides' sigmas are {reference.words}")
        return
    for role, fit in (("reference", reference), ("candidate", candidate)):
        yield Sentence(f"the {role}'s sigmas are {fit.words}")
    if f"{shift_of(reference):.4g}" == f"{shift_of(candidate):.4g}":
        yield Sentence(f"the shift is the same on both sides, {number(round(shift_of(reference), 4))}")


def _switch(sigmas, switches, limit):
    """At which step the second expert takes over, and which shifts would put the switch there."""
    if limit is None:
        return
    for role, step in switches.items():
        if step is None or sigmas[role] is None:
            continue
        steps = sigmas[role].numel() - int(sigmas[role][-1] == 0)
        yield Sentence(
            f"on the {role} the second expert takes over at step {step} of {steps} (tqdm shows {step + 1}), boundary {limit:g}"
        )
        for interval in solve_switch(steps, limit, step):
            yield Sentence(
                f"solved backwards, a switch at step {step} needs a shift from {interval.low:.4g} to {interval.high:.4g}"
            )


def _steps(study, sigmas):
    timesteps = both(study, "timesteps")
    networks = {role: networks_used(trace) for role, trace in study.lab.traces.items()}
    count = max((values.numel() for values in (*sigmas.values(), *timesteps.values()) if values is not None), default=0)
    for step in range(count):
        yield (
            step,
            *(_at(sigmas[role], step) for role in sigmas),
            *(_at(timesteps[role], step) for role in timesteps),
            *(networks[role].get(step) for role in networks),
        )


def networks_used(trace) -> dict[int, str]:
    """{step: component that ran}, where the recorder knows it."""
    if trace is None:
        return {}
    return {p.step: trace.events[p].component for p in trace.at("latent_model_input") if trace.events[p].component}


def _at(values, step: int) -> str | None:
    return f"{values[step].item():.6g}" if values is not None and step < values.numel() else None
