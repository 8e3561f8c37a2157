"""Faults of the update from one latent to the next."""

from __future__ import annotations

import torch

from whydiff.faults.fault import Trial, fault
from whydiff.faults.rewriting import edit
from whydiff.faults.surgery import wrap


def _place(scheduler, timestep) -> int:
    """At which place of the list a timestep stands."""
    return int((scheduler.timesteps == timestep).nonzero()[0])


@fault("step-double-application", "flux", "sd15", "sd3", "sd15_euler", "sdxl")
def _(trial):
    """One step's update happens twice (in both branches, in a callback), or not at all."""
    scheduler = trial.faulty.pipeline.scheduler
    hit = trial.draw.randrange(trial.faulty.call["num_inference_steps"] - 1)
    skipped = trial.draw.random() < 0.3

    def step(original, model_output, timestep, sample, *args, **kwargs):
        if _place(scheduler, timestep) != hit:
            return original(model_output, timestep, sample, *args, **kwargs)
        first = original(model_output, timestep, sample, *args, **kwargs)
        if skipped:
            return (sample, *first[1:]) if isinstance(first, tuple) else type(first)(prev_sample=sample)
        if getattr(scheduler, "_step_index", None) is not None:
            scheduler._step_index -= 1
        return original(model_output, timestep, first[0], *args, **kwargs)

    wrap(scheduler, "step", step)


@fault("order-at-final-step", "sd15_dpm", "sd15_unipc")
def _(trial):
    """One side falls back to first order at the end. Both end at a small sigma, where the second order exists."""
    for host in (trial.healthy, trial.faulty):
        host.pipeline.scheduler.register_to_config(final_sigmas_type="sigma_min")
    on, off = (trial.healthy, trial.faulty) if trial.draw.random() < 0.5 else (trial.faulty, trial.healthy)
    on.pipeline.scheduler.register_to_config(lower_order_final=True)
    off.pipeline.scheduler.register_to_config(lower_order_final=False)


# Classes that share a host's list of timesteps, so that nothing but the update differs.
_SOLVERS = {
    "sd15_dpm": ["UniPCMultistepScheduler", "DPMSolverSinglestepScheduler"],
    "sd15_unipc": ["DPMSolverMultistepScheduler"],
    "sd15_euler": ["LMSDiscreteScheduler"],
    "sd15_karras": ["LMSDiscreteScheduler"],
    "sdxl": ["LMSDiscreteScheduler"],
}


@fault("solver-class", "wan", "flux", *_SOLVERS)
def _(trial):
    import diffusers

    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux":
        _two_steps(trial)
    elif trial.faulty.kind == "wan":
        _euler(trial)
    else:
        name = trial.draw.choice(_SOLVERS[trial.faulty.kind])
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)


def _euler(trial: Trial) -> None:
    """Euler steps along the velocity, on the list of the second-order solver."""
    scheduler = trial.faulty.pipeline.scheduler

    def step(_original, model_output, timestep, sample, return_dict=True, **_more):
        place = _place(scheduler, timestep)
        after = sample + (scheduler.sigmas[place + 1] - scheduler.sigmas[place]) * model_output
        return (after,)

    wrap(scheduler, "step", step)


def _two_steps(trial: Trial) -> None:
    """Two-step Adams-Bashforth on the velocity, where the other side takes Euler steps."""
    scheduler = trial.faulty.pipeline.scheduler
    last: dict = {}

    def step(original, model_output, timestep, sample, *args, **kwargs):
        if _place(scheduler, timestep) == 0:
            last.clear()
        sigma = scheduler.sigmas[_place(scheduler, timestep)]
        after = scheduler.sigmas[_place(scheduler, timestep) + 1]
        velocity = model_output
        if last:
            ratio = (after - sigma) / (sigma - last["sigma"]) / 2
            velocity = (1 + ratio) * model_output - ratio * last["velocity"]
        last.update(sigma=sigma, velocity=model_output)
        return original(velocity, timestep, sample, *args, **kwargs)

    wrap(scheduler, "step", step)


@fault("x0-clipping", "sd15", "sd15_vpred", "sd15_img2img", "sd15_dpm")
def _(trial):
    scheduler = trial.faulty.pipeline.scheduler
    if "clip_sample" in scheduler.config and trial.draw.random() < 0.7:
        scheduler.register_to_config(clip_sample=True, clip_sample_range=trial.draw.choice([1.0, 1.0, 1.5]))
    else:
        scheduler.register_to_config(thresholding=True, sample_max_value=trial.draw.choice([1.0, 1.5]))


def _scheduler_on_both(trial: Trial, name: str) -> None:
    import diffusers

    for host in (trial.faulty, trial.healthy):
        host.pipeline.scheduler = getattr(diffusers, name).from_config(host.pipeline.scheduler.config)


@fault("two-stage-start-parity", "sd15_img2img", "sd15_img2img_dpm")
def _(trial):
    """The list of a two-stage sampler has 2 n - 1 entries: counted from its end, the start lies between two halves of a step."""
    _scheduler_on_both(trial, trial.draw.choice(["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"]))
    start = "t_start * self.scheduler.order"
    edit(trial.faulty.pipeline, "get_timesteps", (start, "len(self.scheduler.timesteps) - init_timestep * self.scheduler.order"))


@fault("multistep-start-not-at-zero", "sd15_img2img_dpm")
def _(trial):
    """Warm-up is asked for as `step_index == 0`: a run that starts later takes the empty history for a history."""
    scheduler = trial.faulty.pipeline.scheduler
    if trial.draw.random() < 0.3:
        _scheduler_on_both(trial, "DEISMultistepScheduler")
        scheduler = trial.faulty.pipeline.scheduler

    def step(original, model_output, timestep, sample, *args, **kwargs):
        if scheduler.step_index is None and scheduler.begin_index:
            scheduler.lower_order_nums = 1
            scheduler.model_outputs[-1] = torch.zeros_like(sample)
        return original(model_output, timestep, sample, *args, **kwargs)

    wrap(scheduler, "step", step)


@fault("per-token-timestep", "wan_i2v")
def _(trial):
    """Wan2.2's small image-to-video model gets a timestep for each token, 0 in the first frame; one side sends one for all."""
    from diffusers import WanImageToVideoPipeline, WanTransformer3DModel

    config = {**trial.healthy.pipeline.transformer.config, "in_channels": 16, "image_dim": None, "added_kv_proj_dim": None}
    seed = trial.draw.getrandbits(31)
    for host in (trial.faulty, trial.healthy):
        parts = {k: v for k, v in host.pipeline.components.items() if k not in ("transformer_2", "image_encoder", "image_processor")}
        network = _drawn(WanTransformer3DModel.from_config(config), seed)
        host.pipeline = WanImageToVideoPipeline(**{**parts, "transformer": network}, expand_timesteps=True)
        host.pipeline.set_progress_bar_config(disable=True)
    edit(trial.faulty.pipeline, "__call__", ("timestep = temp_ts.unsqueeze(0).expand(latents.shape[0], -1)",
                                             "timestep = t.expand(latents.shape[0])"))  # fmt: skip


def _drawn(network, seed: int):
    from whydiff.faults.hosts.weights import lively

    return lively(network, seed)
