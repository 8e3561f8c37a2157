"""Do both sides use the prediction alike: which guidance formula, which sign, which update rule was really applied?"""

from __future__ import annotations

import dataclasses

import torch

from whydiff.audits.judge import both, judged, lies_in, sentences
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.unspecified import left_to_defaults
from whydiff.causes.finding import number

NAME = "guidance_and_step"
QUESTION = "Do both sides use the network's prediction alike: guidance, sign and update rule?"
# A fit that leaves less is taken as exact: some roundings of float32 on the way, far below any other rule's remainder.
EXACT = 1e-4

concerns = lies_in(stages=("guidance", "scheduler_step", "model_forward"))


@dataclasses.dataclass(frozen=True)
class Update:
    """One step as it was applied: latents moved by dt times the prediction, up to `left` of the movement (relative L2)."""

    step: int
    dt: float
    left: float
    expected: float | None  # the difference of neighbouring sigmas: dt of an Euler step


def audit(study) -> AuditResult:
    """Recovered from the recorded latents and predictions alone, so that it holds whatever the code claims."""
    moved = {role: updates(trace) for role, trace in study.lab.traces.items()}
    findings = [*sentences(study, concerns), *_guidance(study), *_sign(study), *_rule(study, moved), *left_to_defaults(study, "guidance")]
    return AuditResult(
        NAME,
        QUESTION,
        judged(study, concerns),
        tuple(findings),
        (
            "step",
            "sigma difference, reference",
            "dt, reference",
            "left over",
            "sigma difference, candidate",
            "dt, candidate",
            "left over",
        ),
        tuple(_rows(moved)),
        {"updates": moved},
    )


def updates(trace) -> list[Update]:
    """dt of every step by least squares, latents[i] − latents[i−1] = dt · noise_pred[i]."""
    if trace is None:
        return []
    sigmas = trace.get("sigmas")
    found = []
    for before, after, prediction, step in _steps(trace):
        movement, velocity = (after - before).double().flatten(), prediction.double().flatten()
        square = (velocity @ velocity).item()
        dt = (velocity @ movement).item() / square if square else 0.0
        norm = movement.norm().item()
        left = (movement - dt * velocity).norm().item() / norm if norm else 0.0
        expected = (sigmas[step + 1] - sigmas[step]).item() if sigmas is not None and step + 1 < sigmas.numel() else None
        found.append(Update(step, dt, left, expected))
    return found


def _steps(trace):
    """(latents before, latents after, noise_pred, step) where all three have one shape."""
    before = trace.get("initial_latents") if trace.get("initial_latents") is not None else trace.get("latent_model_input", 0)
    for place in trace.at("latents"):
        after, prediction = trace[place], trace.get("noise_pred", place.step)
        if prediction is None:
            prediction = trace.get("noise_pred_text", place.step)
        if before is not None and prediction is not None and before.shape == after.shape == prediction.shape:
            yield before, after, prediction, place.step
        before = after


def order_of(trace) -> int | None:
    """How many predictions an update combines: the fewest of the latest ones (and of the latents) that leave nothing over."""
    history = list(_steps(trace))
    if len(history) < 4:
        return None
    for order in (1, 2, 3):
        if all(_left(history, i, order) < EXACT for i in range(order - 1, len(history))):
            return order
    return None


def _left(history, i: int, order: int) -> float:
    before, after, _, _ = history[i]
    terms = [before, *(history[i - k][2] for k in range(order)), *(history[i - k][0] for k in range(1, order))]
    matrix = torch.stack([t.double().flatten() for t in terms], 1)
    target = after.double().flatten()
    solution = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution
    return (target - (matrix @ solution).flatten()).norm().item() / max(target.norm().item(), 1e-30)


def guidance_scale(trace) -> tuple[float, float] | None:
    """(scale, left over) of noise_pred = uncond + scale · (cond − uncond), over all steps; None without both branches."""
    parts = []
    for place in trace.at("noise_pred") if trace is not None else ():
        cond, uncond = trace.get("noise_pred_text", place.step, "cond"), trace.get("noise_pred_uncond", place.step, "uncond")
        if cond is not None and uncond is not None and cond.shape == uncond.shape == trace[place].shape:
            parts.append([t.double().flatten() for t in (trace[place], cond, uncond)])
    if not parts:
        return None
    prediction, cond, uncond = (torch.cat(column) for column in zip(*parts, strict=True))
    direction = cond - uncond
    scale = (direction @ (prediction - uncond) / (direction @ direction)).item() if direction.norm() else 1.0
    return scale, ((prediction - uncond - scale * direction).norm() / prediction.norm()).item()


def _guidance(study):
    """The formula that turns the network's outputs into noise_pred, fitted on each side."""
    words = {}
    for role, trace in study.lab.traces.items():
        if trace is None:
            continue
        fitted = guidance_scale(trace)
        if fitted is not None:
            scale, left = fitted
            words[role] = (
                f"combines the two predictions as uncond + {number(round(scale, 3))} · (cond − uncond)"
                if left < EXACT
                else "combines the two predictions by another formula than uncond + scale · (cond − uncond)"
            )
        elif trace.at("model_input/guidance"):
            values = trace[trace.at("model_input/guidance")[0]].double().flatten()
            words[role] = (
                f"makes one prediction per step; the network itself receives guidance {number(round(values[0].item(), 6))}"
            )
        elif trace.at("noise_pred"):
            words[role] = "makes one prediction per step, without guidance"
    yield from _together(words)


def _sign(study):
    """In flow matching the prediction is noise − image, so it points from the final latents towards the first ones."""
    words = {}
    for role, trace in study.lab.traces.items():
        places = trace.at("latents") if trace is not None else []
        first, prediction = both(study, "initial_latents")[role], trace.get("noise_pred", 0) if trace is not None else None
        if not places or first is None or prediction is None or not first.shape == prediction.shape == trace[places[-1]].shape:
            continue
        direction = (first - trace[places[-1]]).double().flatten()
        along = (direction @ prediction.double().flatten()).item()
        words[role] = (
            "predicts noise minus image (velocity of flow matching)" if along > 0 else "predicts away from its own noise"
        )
    yield from _together(words)


def _rule(study, moved):
    """Euler (dt is the difference of sigmas), a multistep rule, or none that was tried."""
    words = {}
    for role, trace in study.lab.traces.items():
        if not moved[role]:
            continue
        if all(update.left < EXACT for update in moved[role]):
            known = [u for u in moved[role] if u.expected is not None]
            off = [u for u in known if abs(u.dt - u.expected) > 1e-3 * max(abs(u.expected), 1e-6)]
            words[role] = (
                "takes Euler steps: each moves the latents by noise_pred times the difference of its neighbouring sigmas"
                if known and not off
                else "moves the latents along noise_pred"
                + (f", but not by the difference of its sigmas, first at step {off[0].step}" if off else "")
            )
        else:
            order = order_of(trace)
            words[role] = (
                f"takes multistep updates: each combines the latest {order} predictions"
                if order
                else "moves the latents by more than noise_pred and its history explain (a multistep or stochastic sampler)"
            )
    yield from _together(words)


def _together(words: dict[str, str]):
    if len(words) == 2 and words["reference"] == words["candidate"]:
        yield Sentence(f"each side {words['reference']}")
    else:
        yield from (Sentence(f"the {role} {text}") for role, text in words.items())


def _rows(moved):
    steps = {role: {u.step: u for u in found} for role, found in moved.items()}
    for step in sorted(set().union(*steps.values())):
        row = [step]
        for role in ("reference", "candidate"):
            u = steps[role].get(step)
            row += [None, None, None] if u is None else [u.expected, u.dt, u.left]
        yield tuple(row)
