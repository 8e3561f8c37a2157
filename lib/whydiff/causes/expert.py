"""Two networks share the steps (Wan2.2's experts for high and low noise). Does the second take over at the same step?"""

from __future__ import annotations

import contextlib
import dataclasses

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.schedule.recipe import latest
from whydiff.evidence.traces.trace import Trace

_OTHER = {"reference": "candidate", "candidate": "reference"}
_KEYS = ("boundary_ratio", "boundary")


def experts(trace: Trace) -> dict[int, str]:
    """{step: name of the component whose network ran}."""
    return {p.step: e.component for p, e in trace.events.items()
            if p.probe in ("noise_pred_text", "noise_pred_uncond") and p.step is not None and e.component}  # fmt: skip


def explain(finding: Finding, lab) -> list[Explanation]:
    """The places that differ are the steps at which another expert ran, and no others."""
    steps = _apart(lab)
    return _explained(steps, lab) if {p.step for p in finding.places} == set(steps) else []


def apart(finding: Finding, lab) -> tuple[list[tuple[Finding, Explanation]], Finding]:
    """Steps at which another expert ran, taken out of a finding that has others: those have a cause of their own."""
    steps = _apart(lab) if finding.probe in ("noise_pred_text", "noise_pred_uncond") else []
    places = [p for p in finding.places if p.step in steps]
    if not steps or not 0 < len(places) < len(finding.places):
        return [], finding
    rest = dataclasses.replace(finding, places=[p for p in finding.places if p not in places])
    found = [(dataclasses.replace(finding, places=places), explanation) for explanation in _explained(steps, lab, alone=False)]
    for _, explanation in found:
        explanation.covers = set()
    return (found, rest) if found else ([], finding)


def _apart(lab) -> list[int]:
    """The steps at which the sides' whole runs use other experts."""
    ran = _ran(lab)
    return sorted(k for k in ran["reference"] if k in ran["candidate"] and ran["reference"][k] != ran["candidate"][k]) if len(ran) == 2 else []


def _ran(lab) -> dict[str, dict[int, str]]:
    return {role: experts(latest(lab, role)) for role in lab.traces if latest(lab, role) is not None}


def _explained(apart: list[int], lab, alone: bool = True) -> list[Explanation]:
    if not apart:
        return []
    ran, levels = _ran(lab), _levels(lab)
    between = {role: _boundary(names, levels) for role, names in ran.items()}
    told = {role: _told(lab, role) for role in ran}
    confirmed = _confirm(lab, told, ran)
    if not confirmed and (None in between.values() or not alone):
        return []
    words = {role: _words(between[role], told[role]) for role in ran}
    switch = {role: next((k for k in sorted(names) if names[k] != names[min(names)]), len(names)) for role, names in ran.items()}
    departs = [role for role in ran if told[role] is not None and between[role] is not None and not _within(told[role], between[role])]
    return [Explanation(
        id="expert-boundary", stage="schedule", explained=1.0, departs=departs[0] if len(departs) == 1 else "unknown",
        statement=f"the second expert takes over at step {switch['candidate']} in the candidate and {switch['reference']} in the reference, on the "
                  f"same schedule: boundary {words['candidate']} against {words['reference']}",
        relation={"kind": "expert_boundary", "switch_reference": switch["reference"], "switch_candidate": switch["candidate"],
                  "reference": told["reference"], "candidate": told["candidate"],
                  "between_reference": between["reference"], "between_candidate": between["candidate"]},
        experiment=confirmed or f"noted which expert ran at each step: another one at steps {', '.join(map(str, apart))}, and just there the "
                                "predictions differ",
        fix="compare the timestep with boundary_ratio · num_train_timesteps (>=) on both sides, with the checkpoint's boundary_ratio",
        covers={"noise_pred_text", "noise_pred_uncond"})]  # fmt: skip


def _levels(lab) -> dict[int, float]:
    """Noise level in [0, 1] of each step, from the reference's timesteps."""
    trace = lab.traces["reference"]
    timesteps = trace.get("timesteps")
    if timesteps is None:
        return {}
    count = len({p.step for p in trace.at("latents")}) or timesteps.numel()
    listed = timesteps.double().flatten().tolist()[-count:]
    return {k: t / 1000 if max(listed) > 1 else t for k, t in enumerate(listed)}


def _boundary(names: dict[int, str], levels: dict[int, float]) -> tuple[float, float] | None:
    """The interval (after, up to] in which a boundary gives these experts; None where no level separates them."""
    first = names[min(names)]
    high = [levels[k] for k in names if names[k] == first and k in levels]
    low = [levels[k] for k in names if names[k] != first and k in levels]
    if not high or (low and max(low) >= min(high)):
        return None
    return (max(low, default=0.0), min(high))


def _told(lab, role: str) -> float | None:
    side = lab.sides[role]
    config = getattr(side.subject, "config", None) if side is not None else None
    with contextlib.suppress(TypeError, AttributeError):
        return next((float(config[k]) for k in _KEYS if config.get(k) is not None), None)
    return None


def _within(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] < value <= interval[1]


def _words(interval, told) -> str:
    between = "" if interval is None else f"in ({interval[0]:.4g}, {interval[1]:.4g}]"
    return between if told is None else f"{told:.4g} by its configuration" + (f", used {between}" if between and not _within(told, interval) else "")


def _confirm(lab, told: dict, ran: dict) -> str:
    """Run the patient with the other side's boundary: do the same experts run? In words, or "" where that cannot be tried."""
    patient = lab.patient
    if patient is None or None in told.values() or told["reference"] == told["candidate"]:
        return ""
    subject = lab.sides[patient].subject
    key = next(k for k in _KEYS if subject.config.get(k) is not None)
    if not hasattr(subject, "register_to_config"):
        return ""
    try:
        subject.register_to_config(**{key: told[_OTHER[patient]]})
        again = experts(lab.run(patient))
    finally:
        subject.register_to_config(**{key: told[patient]})
    if again != ran[_OTHER[patient]]:
        return ""
    return f"ran the {patient} with {key}={told[_OTHER[patient]]:.4g}: the same expert runs at every step as in the {_OTHER[patient]}"
