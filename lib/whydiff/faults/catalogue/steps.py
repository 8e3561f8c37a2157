"""Faults of stage `schedule` in how the loop uses the list: where it starts and ends, what the network is told, who runs."""

from __future__ import annotations

import dataclasses
import math

from whydiff.faults.fault import Trial, fault
from whydiff.faults.rewriting import edit

# What the network is told about the step, by host.
_TOLD = {"flux": "timestep=timestep / 1000", "qwen": "timestep=timestep / 1000", "wan": "timestep = t.expand(latents.shape[0])",
         "sd3": "timestep = t.expand(latent_model_input.shape[0])", "sd15": "latent_model_input,\n                    t,",
         "sdxl": "t_unet = t.to(torch.float32).to(device) if is_neuron_device else t"}  # fmt: skip


@fault("timestep-scale-1000", "flux", "flux_port", "sd3", "wan", "sd15", "qwen")
def _(trial: Trial) -> None:
    """The step in [0, 1] where [0, 1000] is meant, or the reverse."""
    host = trial.faulty
    if host.kind == "flux_port":
        host.pipeline.options = dataclasses.replace(host.pipeline.options, timestep_scale=trial.draw.choice([0.001, 1000.0]))
        return
    told = _TOLD[host.kind]
    if host.kind in ("flux", "qwen"):
        wrong = trial.draw.choice(["timestep=timestep", "timestep=timestep / 1000 / 1000"])
    elif host.kind == "sd15":
        wrong = told[:-1] + " / 1000,"
    else:
        wrong = f"{told} / 1000"
    edit(host.pipeline, "__call__", (told, wrong))


@fault("timestep-rounded-to-bf16", "flux", "sd15", "sd3", "wan", "sdxl", "qwen")
def _(trial: Trial) -> None:
    told = _TOLD[trial.faulty.kind]
    back = trial.draw.choice(["", ".float()"])
    if trial.faulty.kind in ("flux", "qwen"):
        told = "timestep = t.expand(latents.shape[0]).to(latents.dtype)"
    wrong = f"{told[:-1]}.to(torch.bfloat16){back}," if trial.faulty.kind == "sd15" else f"{told}.to(torch.bfloat16){back}"
    if trial.faulty.kind == "sdxl":
        wrong = f"t_unet = t.to(torch.bfloat16){back}"
    edit(trial.faulty.pipeline, "__call__", (told, wrong))


@fault("loop-count-off-by-one", "flux", "sd15", "sd3", "wan", "qwen", "sd15_euler")
def _(trial: Trial) -> None:
    """The loop drops the last step, or the first."""
    part = trial.draw.choice(["[:-1]", "[1:]"])
    edit(trial.faulty.pipeline, "__call__", ("for i, t in enumerate(timesteps):", f"for i, t in enumerate(timesteps{part}):"))


@fault("expert-boundary", "wan")
def _(trial: Trial) -> None:
    """Another boundary, or an index where a timestep is meant; in both cases the experts change at another step."""
    pipeline, steps = trial.faulty.pipeline, trial.faulty.call["num_inference_steps"]
    pipeline.scheduler.set_timesteps(steps)
    levels = (pipeline.scheduler.timesteps / pipeline.scheduler.config.num_train_timesteps).tolist()
    ratio = pipeline.config.boundary_ratio
    switch = sum(level >= ratio for level in levels)
    by_index = sum(i < ratio * steps for i in range(steps))
    if by_index != switch and trial.draw.random() < 0.4:
        edit(pipeline, "__call__", ("t >= boundary_timestep", "i < self.config.boundary_ratio * len(timesteps)"))
        return
    published = [r for r in (0.9, 0.947, 0.8, 0.7, 0.5) if sum(level >= r for level in levels) != switch]
    pipeline.register_to_config(boundary_ratio=trial.draw.choice(published))


@fault("duplicate-timestep-begin-index", "sd15_img2img")
def _(trial: Trial) -> None:
    """Heun's list has each timestep twice; the index to begin at is the first match, where it should be the second."""
    from diffusers import HeunDiscreteScheduler

    for host in (trial.faulty, trial.healthy):
        host.pipeline.scheduler = HeunDiscreteScheduler.from_config(host.pipeline.scheduler.config)
    begin = "self.scheduler.set_begin_index(t_start * self.scheduler.order)"
    first = "(self.scheduler.timesteps == timesteps[0]).int().argmax().item()"
    edit(trial.faulty.pipeline, "get_timesteps", (begin, f"self.scheduler.set_begin_index({first})"))


@fault("img2img-strength-meaning", "sd15_img2img", "sd15_img2img_dpm")
def _(trial: Trial) -> None:
    """Strength as a noise level (the first timestep at or below it), or rounded up or to the nearest where it is cut."""
    call, pipeline = trial.faulty.call, trial.faulty.pipeline
    steps = call["num_inference_steps"]
    strength = trial.draw.choice([0.45, 0.55, 0.7, 0.8])
    for host in (trial.faulty, trial.healthy):
        host.call["strength"] = strength
    pipeline.scheduler.set_timesteps(steps)
    train = pipeline.scheduler.config.num_train_timesteps
    share = int(steps * strength)
    count = "init_timestep = min(int(num_inference_steps * strength), num_inference_steps)"
    readings = {
        "level": (sum(int(t) < strength * train for t in pipeline.scheduler.timesteps),
                  f"init_timestep = max(int((self.scheduler.timesteps < strength * {train}).sum()), 1)"),
        "up": (math.ceil(steps * strength), "init_timestep = min(math.ceil(num_inference_steps * strength), num_inference_steps)"),
        "nearest": (round(steps * strength), "init_timestep = min(round(num_inference_steps * strength), num_inference_steps)"),
    }  # fmt: skip
    other = [text for start, text in readings.values() if start != share]
    edit(pipeline, "get_timesteps", (count, trial.draw.choice(other)), math=math)


