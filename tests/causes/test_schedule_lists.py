"""Which cause is named for two lists of noise levels: by the schedulers' own classes and keys first, then by formula."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from scheduler_bench import SD, Pipeline, finding, lab_of

from whydiff.causes.registry import explain


def made(kind, **config):
    return kind(**(SD | config))


def flow(**config):
    return FlowMatchEulerDiscreteScheduler(**({"shift": 3.0} | config))


def changed(scheduler, change):
    """The scheduler with its lists changed after set_timesteps, as damaged code would."""
    original = scheduler.set_timesteps

    def set_timesteps(*args, **kwargs):
        original(*args, **kwargs)
        change(scheduler)

    scheduler.set_timesteps = set_timesteps
    return scheduler


def finer(scheduler, of, keep):
    """The first `keep` entries of a schedule of `of` steps."""
    original = scheduler.set_timesteps

    def set_timesteps(num_inference_steps=None, **kwargs):
        original(of, **kwargs)
        scheduler.timesteps = scheduler.timesteps[:keep]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[:keep], scheduler.sigmas[-1:]])

    scheduler.set_timesteps = set_timesteps
    return scheduler


def named(reference, candidate, probe, live):
    lab = lab_of(Pipeline(reference), Pipeline(candidate), live)
    return explain(finding(lab, probe), lab)


def drop_penultimate(scheduler):
    scheduler.sigmas = torch.cat([scheduler.sigmas[:-2], scheduler.sigmas[-1:]])
    scheduler.timesteps = scheduler.timesteps[:-1]


def cut(scheduler):
    scheduler.timesteps = torch.from_numpy(np.linspace(0, 999, 6)[::-1].astype(np.int64).copy())


CASES = {
    "another formula of betas": ("beta-schedule-name", "sigmas", lambda: made(EulerDiscreteScheduler),
                                 lambda: made(EulerDiscreteScheduler, beta_schedule="linear")),
    "betas of a side without that key": ("beta-schedule-name", "alphas_cumprod", lambda: made(DDIMScheduler), lambda: changed(
        made(DDIMScheduler), lambda s: setattr(s, "alphas_cumprod", made(DDIMScheduler, beta_schedule="linear").alphas_cumprod))),
    "zero terminal SNR": ("zero-snr-with-epsilon", "alphas_cumprod", lambda: made(DDIMScheduler),
                          lambda: made(DDIMScheduler, rescale_betas_zero_snr=True)),
    "offset by configuration": ("steps-offset", "timesteps", lambda: made(DDIMScheduler), lambda: made(DDIMScheduler, steps_offset=0)),
    "offset by code": ("steps-offset", "timesteps", lambda: made(DDIMScheduler),
                       lambda: changed(made(DDIMScheduler), lambda s: setattr(s, "timesteps", s.timesteps - 1))),
    "a key without an id": ("scheduler-config", "sigmas", lambda: made(EulerDiscreteScheduler),
                            lambda: made(EulerDiscreteScheduler, use_karras_sigmas=True)),
    "the class's defaults": ("checkpoint-scheduler-config-ignored", "timesteps", lambda: made(DDIMScheduler), DDIMScheduler),
    "another solver": ("solver-class", "timesteps", lambda: made(DDIMScheduler),
                       lambda: EulerDiscreteScheduler.from_config(made(DDIMScheduler).config)),
    "another solver, other lengths": ("solver-class", "sigmas", lambda: made(HeunDiscreteScheduler), lambda: made(EulerDiscreteScheduler)),
    "a static shift": ("shift-constant", "sigmas", flow, lambda: flow(shift=5.0)),
    "timesteps not shifted": ("timesteps-not-shifted", "timesteps", flow, lambda: changed(
        flow(), lambda s: setattr(s, "timesteps", s.timesteps / (3 - 2 * s.timesteps / 1000)))),
    "sigmas not shifted": ("timesteps-not-shifted", "sigmas", flow, lambda: changed(
        flow(), lambda s: setattr(s, "sigmas", s.sigmas / (3 - 2 * s.sigmas)))),
    "sigmas rounded": ("sigmas-built-in-low-precision", "sigmas", lambda: made(EulerDiscreteScheduler), lambda: changed(
        made(EulerDiscreteScheduler), lambda s: setattr(s, "sigmas", s.sigmas.bfloat16().float()))),
    "cut to integers": ("timestep-truncated-to-int", "timesteps", lambda: made(DDIMScheduler, timestep_spacing="linspace"),
                        lambda: changed(made(DDIMScheduler, timestep_spacing="linspace"), cut)),
    "first of a finer list": ("lcm-uneven-spread", "timesteps", lambda: made(DDIMScheduler), lambda: finer(made(DDIMScheduler), 50, 6)),
    "first of a finer flow list": ("lcm-uneven-spread", "sigmas", flow, lambda: finer(flow(), 50, 6)),
    "last but one left out": ("penultimate-sigma", "sigmas", lambda: made(EulerDiscreteScheduler),
                              lambda: changed(made(EulerDiscreteScheduler), drop_penultimate)),
    "last but one of one more left out": ("penultimate-sigma", "sigmas", lambda: made(EulerDiscreteScheduler),
                                          lambda: finer(made(EulerDiscreteScheduler), 7, 6)),
}  # fmt: skip


@pytest.mark.parametrize("live", [True, False], ids=["live", "traces"])
@pytest.mark.parametrize("case", CASES)
def test_the_cause_of_other_noise_levels_is_named_on_either_side(case, live):
    id_, probe, good, bad = CASES[case]
    (forward,) = named(good(), bad(), probe, live)
    (backward,) = named(bad(), good(), probe, live)
    assert forward.id == backward.id == id_
    assert {forward.departs, backward.departs} in ({"candidate", "reference"}, {"unknown"})


def test_a_grid_built_in_bfloat16_is_told_from_sigmas_rounded_to_it():
    grids = [torch.linspace(1, 1 / 20, 20), torch.linspace(1, 1 / 20, 20, dtype=torch.bfloat16)]
    reference, candidate = (Pipeline(flow(), steps=20, arguments={"sigmas": grid.float().tolist()}) for grid in grids)
    lab = lab_of(reference, candidate)
    (cause,) = explain(finding(lab, "sigmas"), lab)
    assert cause.id == "sigmas-built-in-low-precision"
    assert cause.relation["dtype"] == "bfloat16" and cause.relation["where"] == "the grid before the shift"


def test_one_key_covers_what_follows_from_it_and_nothing_that_is_wrong_by_itself():
    key = {"beta_schedule": "linear"}
    lab = lab_of(Pipeline(made(EulerDiscreteScheduler)), Pipeline(made(EulerDiscreteScheduler, **key)))
    (cause,) = explain(finding(lab, "sigmas"), lab)
    assert {"alphas_cumprod", "latents", "latent_model_input"} <= cause.covers
    moved = changed(made(EulerDiscreteScheduler, **key), lambda s: setattr(s, "timesteps", s.timesteps - 1))
    lab = lab_of(Pipeline(made(EulerDiscreteScheduler)), Pipeline(moved))
    (cause,) = explain(finding(lab, "sigmas"), lab)
    assert cause.id == "beta-schedule-name" and "timesteps" not in cause.covers


def test_arguments_that_come_with_a_class_are_no_cause_of_their_own():
    grid = np.linspace(1, 1 / 6, 6)
    euler = flow(use_dynamic_shifting=True)
    unipc = UniPCMultistepScheduler.from_config(euler.config, use_flow_sigmas=True, prediction_type="flow_prediction")
    lab = lab_of(Pipeline(euler, arguments={"num_inference_steps": None, "sigmas": grid, "mu": 0.5}),
                 Pipeline(unipc, arguments={"mu": 0.5}))  # fmt: skip
    (cause,) = explain(finding(lab, "sigmas"), lab)
    assert cause.id == "solver-class"


def test_two_lists_that_nothing_simple_separates_stay_unexplained():
    bent = changed(flow(), lambda s: setattr(s, "sigmas", s.sigmas**1.1))
    assert named(flow(), bent, "sigmas", True) == []


def test_another_solvers_starting_sigma_is_the_solver_and_a_bare_factor_is_not():
    lab = lab_of(Pipeline(made(DDIMScheduler)), Pipeline(made(EulerDiscreteScheduler)))
    (cause,) = explain(finding(lab, "initial_latents"), lab)
    assert cause.id == "solver-class" and "latents" in cause.covers
    lab = lab_of(Pipeline(made(EulerDiscreteScheduler)), Pipeline(made(EulerDiscreteScheduler), seed=0, initial=1.0))
    (cause,) = explain(finding(lab, "initial_latents"), lab)
    assert cause.id == "init-noise-sigma-missing"
