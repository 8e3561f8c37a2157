"""Which cause is named for updates that differ on equal inputs: every step is computed again with one thing changed."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from scheduler_bench import SD, Pipeline, finding, lab_of

from whydiff.causes.registry import explain


def made(kind, **config):
    return kind(**(SD | config))


def stepping(scheduler, rule):
    """The scheduler with `rule(k, step, prediction, t, sample)` as its step."""
    original, state = scheduler.step, {"k": 0}
    set_timesteps = scheduler.set_timesteps

    def begin(*args, **kwargs):
        state["k"] = 0
        return set_timesteps(*args, **kwargs)

    def step(model_output, timestep, sample, return_dict=True, **kwargs):
        state["k"] += 1
        return (rule(state["k"] - 1, lambda x: original(model_output, timestep, x, return_dict=False, **kwargs)[0], model_output,
                     timestep, sample),)  # fmt: skip

    scheduler.set_timesteps, scheduler.step = begin, step
    return scheduler


def twice(scheduler, at):
    return stepping(scheduler, lambda k, step, p, t, x: step(step(x)) if k == at else step(x))


def not_at(scheduler, at):
    def rule(k, step, p, t, x):
        moved = step(x)
        return x if k == at else moved

    return stepping(scheduler, rule)


def begun(scheduler, offset):
    def rule(k, step, p, t, x):
        if k == 0:
            scheduler._step_index = None
            scheduler._init_step_index(t)
            scheduler._step_index += offset
        return step(x)

    return stepping(scheduler, rule)


def with_a_past(scheduler):
    def rule(k, step, p, t, x):
        if k == 0:
            scheduler._init_step_index(t)
            scheduler.model_outputs, scheduler.lower_order_nums = [torch.zeros_like(x)] * 2, 1
        return step(x)

    return stepping(scheduler, rule)


def other_config(scheduler, **config):
    """A scheduler that steps by a configuration that it does not state."""
    other = type(scheduler).from_config(scheduler.config, **config)

    def rule(k, step, p, t, x):
        other.num_inference_steps = scheduler.num_inference_steps
        return other.step(p, t, x, return_dict=False)[0]

    return stepping(scheduler, rule)


def multistep(**config):
    return made(DPMSolverMultistepScheduler, **config)


CASES = {
    "last steps of another order": ("order-at-final-step", lambda: multistep(final_sigmas_type="sigma_min"),
                                    lambda: multistep(final_sigmas_type="sigma_min", lower_order_final=False), {}),
    "another quantity predicted": ("prediction-type", lambda: made(DDIMScheduler), lambda: made(DDIMScheduler, prediction_type="v_prediction"), {}),
    "clean sample clipped": ("x0-clipping", lambda: made(DDIMScheduler, clip_sample=False), lambda: made(DDIMScheduler), {}),
    "clipped, and not said": ("x0-clipping", lambda: made(DDIMScheduler, clip_sample=False),
                              lambda: other_config(made(DDIMScheduler, clip_sample=False), clip_sample=True), {}),
    "another solver": ("solver-class", lambda: UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
                       lambda: FlowMatchEulerDiscreteScheduler(shift=3.0), {}),
    "noise in each step": ("solver-class", lambda: made(EulerAncestralDiscreteScheduler), lambda: made(EulerDiscreteScheduler), {}),
    "another solver order": ("solver-class", lambda: multistep(), lambda: multistep(solver_order=1), {}),
    "a key without an id": ("scheduler-config", lambda: made(PNDMScheduler, skip_prk_steps=True),
                            lambda: made(PNDMScheduler, skip_prk_steps=True, set_alpha_to_one=True), {}),
    "a step made twice": ("step-double-application", lambda: made(DDIMScheduler), lambda: twice(made(DDIMScheduler), 1), {}),
    "a step left out": ("step-double-application", lambda: made(DDIMScheduler), lambda: not_at(made(DDIMScheduler), 2), {}),
    "begun one entry too early": ("duplicate-timestep-begin-index", lambda: made(EulerDiscreteScheduler),
                                  lambda: begun(made(EulerDiscreteScheduler), -1), {"start": 2}),
    "begun at the other of two equal timesteps": ("duplicate-timestep-begin-index", lambda: made(HeunDiscreteScheduler),
                                 lambda: begun(made(HeunDiscreteScheduler), -1), {"start": 2}),
    "a past it does not have": ("multistep-start-not-at-zero", multistep, lambda: with_a_past(multistep()), {"start": 2}),
}  # fmt: skip


@pytest.mark.parametrize("live", [True, False], ids=["live", "traces"])
@pytest.mark.parametrize("case", CASES)
def test_the_cause_of_other_updates_is_named_on_either_side(case, live):
    id_, good, bad, loop = CASES[case]
    steps = {"steps": 8 if loop else 6}
    for reference, candidate in ((good, bad), (bad, good)):
        lab = lab_of(Pipeline(reference(), **loop, **steps), Pipeline(candidate(), **loop, **steps), live)
        (cause,) = explain(finding(lab, "latents"), lab)
        assert cause.id == id_, cause.statement


def test_a_key_that_both_sides_state_alike_is_said_to_be_stated_alike():
    bad = other_config(made(DDIMScheduler, clip_sample=False), clip_sample=True)
    lab = lab_of(Pipeline(made(DDIMScheduler, clip_sample=False)), Pipeline(bad))
    (cause,) = explain(finding(lab, "latents"), lab)
    assert cause.departs == "candidate" and "although both configurations say False" in cause.statement


def test_updates_that_no_single_change_reproduces_stay_unexplained():
    lab = lab_of(Pipeline(made(DDIMScheduler)), Pipeline(stepping(made(DDIMScheduler), lambda k, step, p, t, x: step(x) + 0.01 * p * p)))
    assert explain(finding(lab, "latents"), lab) == []


def test_inherited_latents_of_recorded_sides_have_no_cause_in_the_step():
    lab = lab_of(Pipeline(made(DDIMScheduler)), Pipeline(made(DDIMScheduler), seed=1), live=False)
    assert explain(finding(lab, "latents"), lab) == []


def halved(k, step, p, t, x):
    return x + 0.5 * (step(x) - x) if k >= 4 else step(x)


def test_half_a_step_on_the_reference_is_no_step_made_twice_on_the_candidate():
    def flow():
        return FlowMatchEulerDiscreteScheduler(shift=3.0)

    lab = lab_of(Pipeline(stepping(flow(), halved)), Pipeline(flow()))
    assert explain(finding(lab, "latents"), lab) == []


def test_a_starting_sigma_that_follows_from_the_spacing_is_named_by_it():
    """In its forced run the candidate holds the reference's sigmas, and makes its init_noise_sigma of them by its own rule."""
    spacings = [{"timestep_spacing": spacing} for spacing in ("trailing", "leading")]
    for ours, theirs in (spacings, spacings[::-1]):
        lab = lab_of(Pipeline(made(EulerDiscreteScheduler, **ours)), Pipeline(made(EulerDiscreteScheduler, **theirs)))
        (cause,) = explain(finding(lab, "initial_latents"), lab)
        assert (cause.id, cause.relation["keys"]) == ("scheduler-config", ["timestep_spacing"]) and "sigmas" in cause.covers
