"""How often is the network evaluated, and the scheduler stepped? What the two patterns say when they differ."""

from __future__ import annotations

import dataclasses
import math

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.guidance import calls as guidance_calls
from whydiff.causes.schedule.recipe import recipe
from whydiff.evidence.traces.trace import Trace

_OTHER = {"reference": "candidate", "candidate": "reference"}


@dataclasses.dataclass
class Pattern:
    """One run's loop: the steps at which the network ran, how often in each, the timestep it was fed, and the updates made."""

    evaluated: dict[int, int]  # step -> evaluations of its busiest branch
    fed: dict[int, float]
    updates: list[int]
    repeated: set[int]  # steps whose prediction is, bit for bit, the one of the step before

    @property
    def skipped(self) -> list[int]:
        return [k for k in self.updates if k not in self.evaluated]


def pattern(trace: Trace) -> Pattern:
    counts: dict[tuple, int] = {}
    fed: dict[int, float] = {}
    for place, event in trace.events.items():
        if place.step is None:
            continue
        if place.probe in ("noise_pred_text", "noise_pred_uncond"):
            counts[place.step, place.branch] = counts.get((place.step, place.branch), 0) + 1
        elif place.probe in ("model_input/timestep", "model_input/timesteps", "model_input/t") and event.tensor.numel():
            fed.setdefault(place.step, float(event.tensor.flatten()[-1]))
    evaluated: dict[int, int] = {}
    for (step, _), count in counts.items():
        evaluated[step] = max(evaluated.get(step, 0), count)
    updates = sorted({p.step for p in trace if p.probe == "latents" and p.step is not None})
    predictions = {k: trace.get("noise_pred", k) for k in updates}
    repeated = {k for k in updates if k - 1 in predictions and predictions[k] is not None and predictions[k - 1] is not None
                and predictions[k].shape == predictions[k - 1].shape and torch.equal(predictions[k], predictions[k - 1])}  # fmt: skip
    return Pattern(evaluated, fed, updates, repeated)


def explain(finding: Finding, lab) -> list[Explanation]:
    """`finding` says that the numbers of evaluations differ; the patterns of both whole runs say how."""
    if None in lab.traces.values():
        return []
    patterns = {role: pattern(trace) for role, trace in lab.traces.items()}
    for experiment in (stepped_twice, skipped_evaluations, other_loop):
        found = experiment(finding, lab, patterns)
        if found:
            return found
    return guidance_calls.explain(finding, lab)


def in_loop(lab) -> set[str]:
    """All probes of the sampling loop: with one more step on one side, equal step numbers are no equal steps."""
    return {place.probe for trace in lab.traces.values() for place in trace if place.step is not None}


def stepped_twice(finding: Finding, lab, patterns) -> list[Explanation]:
    """One side updates its latents more, or less, often than it evaluates its network."""
    for role in ("candidate", "reference"):
        one, other = patterns[role], patterns[_OTHER[role]]
        if not one.evaluated or other.skipped or max(other.evaluated.values(), default=0) != 1:
            continue
        extra = [k for k in one.skipped if k in one.repeated]
        evaluations = sum(one.evaluated.values())
        twice = extra and extra == one.skipped and len(one.updates) - len(extra) == evaluations == len(other.updates)
        lost = not one.skipped and evaluations == len(other.updates) > len(one.updates) and max(one.evaluated.values()) > 1
        if twice or lost:
            at = extra if twice else [k for k, n in one.evaluated.items() if n > 1]
            did = "more than once" if twice else "not at all"
            return [Explanation(
                id="step-double-application", stage="scheduler_step", departs=role, explained=1.0,
                statement=f"{role} makes {len(one.updates)} updates from {evaluations} evaluations of its network: it steps {did} from the "
                          f"same prediction, first at step {at[0]}; the {_OTHER[role]} steps once for each",
                relation={"kind": "repeated_step", "updates": len(one.updates), "evaluations": evaluations, "steps": at[:32]},
                experiment=f"counted evaluations and updates: {evaluations} and {len(one.updates)} on the {role}, {len(other.updates)} of both on "
                           f"the {_OTHER[role]}; the extra updates used the very prediction of the step before" if twice else
                           f"counted evaluations and updates: {evaluations} and {len(one.updates)} on the {role}",
                fix=f"call scheduler.step exactly once per step in the {role}",
                unmatched={role: extra} if twice and lab.patient else {},
                covers={"latents", "latent_model_input"} if twice and lab.patient else in_loop(lab))]  # fmt: skip
    return []


def skipped_evaluations(finding: Finding, lab, patterns) -> list[Explanation]:
    """One side makes as many updates as the other, some of them without evaluating its network."""
    for role in ("candidate", "reference"):
        one, other = patterns[role], patterns[_OTHER[role]]
        if not one.evaluated or not one.skipped or other.skipped or one.updates != other.updates:
            continue
        reused = [k for k in one.skipped if k in one.repeated]
        words = "it reuses the prediction of the step before" if reused == one.skipped else "its prediction is made without the network"
        return [Explanation(
            id="accelerator-on-one-side", stage="caching_parallel", equivalent=["cache-spent-state"], departs=role, explained=1.0,
            statement=f"{role} evaluates its network at {len(one.evaluated)} of {len(one.updates)} steps, the {_OTHER[role]} at each: at steps "
                      f"{', '.join(map(str, one.skipped[:8]))} {words}",
            relation={"kind": "skipped_evaluations", "side": role, "steps": one.skipped[:64], "reused": len(reused)},
            experiment=f"counted evaluations of the network step by step; the {role} has none at those steps and updates its latents all the same",
            fix=f"switch the step cache off in the {role}, or declare it (declares: {{cache: ...}})", covers={"noise_pred"})]  # fmt: skip
    return []


def other_loop(finding: Finding, lab, patterns) -> list[Explanation]:
    """Both walk one list of timesteps, but not the same part of it."""
    mine, theirs = patterns["reference"], patterns["candidate"]
    lists = {role: trace.get("timesteps") for role, trace in lab.traces.items()}
    if None not in lists.values() and (lists["reference"].shape != lists["candidate"].shape):
        return []
    count = {"reference": len(mine.updates or mine.evaluated), "candidate": len(theirs.updates or theirs.evaluated)}
    longer = max(count, key=count.get)
    shorter, apart = _OTHER[longer], abs(count["reference"] - count["candidate"])
    if not apart or not all(count.values()):
        return []
    where = _part(patterns[longer].fed, patterns[shorter].fed, apart)
    if where is None:
        return []
    pictured = any(trace.at(probe) for trace in lab.traces.values() for probe in ("image_latents", "init_image"))
    if where != "first" and apart > 1 or (where == "first" and apart > 1 and not pictured):
        return []
    halved = where == "first" and between_stages(lab, apart)
    if halved:
        return [_halved(lab, count, longer, apart)]
    strength = where == "first" and pictured
    steps = "step" if apart == 1 else f"{apart} steps"
    return [Explanation(
        id="img2img-strength-meaning" if strength else "loop-count-off-by-one", departs="unknown", explained=1.0, stage="schedule",
        equivalent=["loop-count-off-by-one"] if strength and apart == 1 else [],
        statement=f"candidate runs {count['candidate']} steps, the reference {count['reference']}, of the same list of timesteps: the {shorter} "
                  f"leaves out the {where} {steps}",
        relation={"kind": "loop_part", "reference": count["reference"], "candidate": count["candidate"], "left_out": where, "steps": apart},
        experiment=f"laid the timesteps that the networks received side by side: without the {where} {steps} the {longer}'s equal the {shorter}'s",
        fix="start both loops at the same noise level: int(num_inference_steps · strength) steps from the end of the list" if strength else
            "iterate over the whole list of timesteps on both sides",
        unmatched={longer: first_steps(patterns[longer], apart)} if where == "first" and lab.patient else {},
        covers={"vae_latents"} if where == "last" else set() if lab.patient else in_loop(lab))]  # fmt: skip


def first_steps(one: Pattern, count: int) -> list[int]:
    return sorted(one.updates or one.evaluated)[:count]


def between_stages(lab, apart: int) -> bool:
    """Does a solver of two stages to a step begin in mid-list an odd number of entries away from where it does on the other side?"""
    made = [recipe(lab, role) for role in lab.traces]
    begins = [(trace.producer.get("calls") or {}).get("steps", [{}])[0].get("index") for trace in lab.traces.values()]
    two = all(m is not None and getattr(m.kind, "order", 1) == 2 for m in made)
    return two and apart % 2 == 1 and all(isinstance(b, int) and b > 0 for b in begins)


def _halved(lab, count: dict, longer: str, apart: int) -> Explanation:
    begins = {role: trace.producer["calls"]["steps"][0]["index"] for role, trace in lab.traces.items()}
    odd = [role for role, begin in begins.items() if begin % 2]
    return Explanation(
        id="two-stage-start-parity", stage="scheduler_step", equivalent=["img2img-strength-meaning"], explained=1.0,
        departs=odd[0] if len(odd) == 1 else "unknown",
        statement=f"candidate's loop begins at entry {begins['candidate']} of the list, the reference's at {begins['reference']}: the solver "
                  "takes two entries to a step, so one of them begins between its halves",
        relation={"kind": "begin_index"} | begins | {"steps_reference": count["reference"], "steps_candidate": count["candidate"]},
        experiment=f"laid the timesteps that the networks received side by side: without the first {apart} the {longer}'s equal the other's",
        fix="begin at t_start * scheduler.order, a whole number of steps from the start of the list", covers=set() if lab.patient else in_loop(lab),
        unmatched={longer: first_steps(pattern(lab.traces[longer]), apart)} if lab.patient else {})  # fmt: skip


def _part(longer: dict[int, float], shorter: dict[int, float], apart: int) -> str | None:
    """"first" or "last": what `longer` has more of the timesteps that were fed, up to one factor (a scale of 1000)."""
    a, b = ([values[k] for k in sorted(values)] for values in (longer, shorter))
    if len(a) != len(b) + apart or not b:
        return None
    for where, part in (("last", a[: len(b)]), ("first", a[apart:])):
        for scale in (1.0, 1000.0, 0.001):
            if all(math.isclose(x * scale, y, rel_tol=1e-5, abs_tol=1e-6) for x, y in zip(part, b)):
                return where
    return None
