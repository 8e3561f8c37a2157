"""Faults of stage `schedule` in the list of noise levels itself: its grid, its shift, its betas, its rounding."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.faults.fault import Host, Trial, fault
from whydiff.faults.rewriting import edit, reconfigure

_GRID = "np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)"  # in the pipelines that bring their own sigmas
_STATIC = "sigmas = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)"
_DYNAMIC = "sigmas = self.time_shift(mu, 1.0, sigmas)"
_UNIPC = "sigmas = self.config.flow_shift * sigmas / (1 + (self.config.flow_shift - 1) * sigmas)"


def _option(host: Host, **options) -> None:
    """The native port is built with another option."""
    host.pipeline.options = dataclasses.replace(host.pipeline.options, **options)


@fault("checkpoint-scheduler-config-ignored", "flux", "sd15", "sd3", "sdxl", "wan", "sd15_euler", "sd15_dpm")
def _(trial: Trial) -> None:
    """The scheduler is built from its class's defaults; of the config only what the code needs to run is carried over."""
    scheduler = trial.faulty.pipeline.scheduler
    needed = ("prediction_type", "use_flow_sigmas", "timestep_spacing", "algorithm_type", "clip_sample")
    trial.faulty.pipeline.scheduler = type(scheduler)(**{k: scheduler.config[k] for k in needed if k in scheduler.config})


@fault("shift-constant", "sd3", "wan", "flux", "flux_port", "wan_i2v")
def _(trial: Trial) -> None:
    host, shift = trial.faulty, trial.draw.choice([1.0, 2.0, 5.0, 7.0, 12.0])
    if host.kind == "flux_port":
        _option(host, flow_shift=shift)
    elif host.kind == "flux":
        reconfigure(host.pipeline, use_dynamic_shifting=False, shift=shift)
    else:
        reconfigure(host.pipeline, **{"shift" if host.kind == "sd3" else "flow_shift": shift})


@fault("shift-applied-twice", "sd3", "wan", "flux", "qwen")
def _(trial: Trial) -> None:
    scheduler = trial.faulty.pipeline.scheduler
    if trial.faulty.kind == "wan":
        edit(scheduler, "set_timesteps", (_UNIPC, f"{_UNIPC}; {_UNIPC}"))
    else:
        edit(scheduler, "set_timesteps", (_STATIC, f"{_STATIC}; {_STATIC}"), (_DYNAMIC, f"{_DYNAMIC}; {_DYNAMIC}"))


@fault("dynamic-shift-seq-len", "flux", "flux_port", "qwen")
def _(trial: Trial) -> None:
    """Tokens are counted before they are patched, or as pixels of the picture would be."""
    if trial.faulty.kind == "flux_port":
        _option(trial.faulty, mu_token_factor=4)
        return
    factor = trial.draw.choice([4, 4, 16])
    edit(trial.faulty.pipeline, "__call__", ("image_seq_len = latents.shape[1]", f"image_seq_len = {factor} * latents.shape[1]"))


@fault("sigma-grid-endpoints", "flux", "sd3", "qwen", "flux_port", "wan")
def _(trial: Trial) -> None:
    """The last level before zero is 1/1000, or zero itself, or the grid has a point more and loses its last."""
    host = trial.faulty
    if host.kind == "flux_port":
        _option(host, sigma_min=0.001)
    elif host.kind == "sd3":
        edit(host.pipeline.scheduler, "set_timesteps",
             ("                    num_inference_steps,\n                )\n            sigmas = timesteps",
              "                    num_inference_steps + 1,\n                )[:-1]\n            sigmas = timesteps"))  # fmt: skip
    elif host.kind == "wan":
        grid = "np.linspace(1, 1 / self.config.num_train_timesteps, num_inference_steps + 1)[:-1]"
        edit(host.pipeline.scheduler, "set_timesteps", (grid, grid.replace(" + 1)[:-1]", ")")))
    else:
        last = trial.draw.choice(["0.001", "0.0"])
        edit(host.pipeline, "__call__", (_GRID, f"np.linspace(1.0, {last}, num_inference_steps)"))


@fault("sigmas-built-in-low-precision", "flux", "qwen", "sd3", "wan", num_inference_steps=7)
def _(trial: Trial) -> None:
    """The grid is made in bfloat16 or float16; in a scheduler, after the shift. Seven steps: a grid of halves would be exact."""
    dtype = trial.draw.choice([torch.bfloat16, torch.bfloat16, torch.float16])

    def lowered(values):
        return torch.as_tensor(values).to(dtype).double().numpy()

    host = trial.faulty
    if host.kind in ("flux", "qwen"):
        edit(host.pipeline, "__call__", (_GRID, f"lowered({_GRID})"), lowered=lowered)
    elif host.kind == "sd3":
        edit(host.pipeline.scheduler, "set_timesteps", (_STATIC, f"{_STATIC}; sigmas = lowered(sigmas)"), lowered=lowered)
    else:
        edit(host.pipeline.scheduler, "set_timesteps", (_UNIPC, f"{_UNIPC}; sigmas = lowered(sigmas)"), lowered=lowered)


@fault("timesteps-not-shifted", "flux", "sd3", "qwen")
def _(trial: Trial) -> None:
    """Timesteps of the unshifted grid beside shifted sigmas, or the reverse."""
    kept = "unshifted = torch.from_numpy(np.array(sigmas)).to(torch.float32)"
    made = "timesteps = sigmas * self.config.num_train_timesteps"
    wrong = "timesteps = unshifted * self.config.num_train_timesteps"
    if trial.draw.random() < 0.3:
        wrong = f"{made}; sigmas = unshifted"
    edit(trial.faulty.pipeline.scheduler, "set_timesteps", (_STATIC, f"{kept}; {_STATIC}"), (_DYNAMIC, f"{kept}; {_DYNAMIC}"),
         (made, wrong))  # fmt: skip


@fault("timestep-truncated-to-int", "flux", "sd15", "wan", "sd3")
def _(trial: Trial) -> None:
    """An integer cast without rounding, where the other side rounds or keeps the fraction."""
    faulty, healthy = trial.faulty.pipeline, trial.healthy.pipeline
    if trial.faulty.kind == "sd15":
        for pipeline in (faulty, healthy):
            reconfigure(pipeline, timestep_spacing="linspace")
        edit(faulty.scheduler, "set_timesteps", (".round()", ""))
    elif trial.faulty.kind == "wan":  # diffusers' UniPC truncates
        scaled = "timesteps = (sigmas * self.config.num_train_timesteps)"
        edit(healthy.scheduler, "set_timesteps", (f"{scaled}.copy()", f"{scaled}.round()"))
    else:
        made = "timesteps = sigmas * self.config.num_train_timesteps"
        edit(faulty.scheduler, "set_timesteps", (made, f"timesteps = ({made.partition(' = ')[2]}).to(torch.int64).float()"))


@fault("beta-schedule-name", "sd15", "sd15_euler", "sdxl", "sd15_dpm", "sd15_pndm", "sd15_unipc")
def _(trial: Trial) -> None:
    name = trial.faulty.pipeline.scheduler.config.beta_schedule
    reconfigure(trial.faulty.pipeline, beta_schedule="linear" if name == "scaled_linear" else "scaled_linear")


@fault("zero-snr-with-epsilon", "sd15")
def _(trial: Trial) -> None:
    """Terminal SNR zero on a model that predicts epsilon; the clip hides the division by zero at the first step."""
    for host in (trial.faulty, trial.healthy):
        reconfigure(host.pipeline, timestep_spacing="trailing", clip_sample=True)
    reconfigure(trial.faulty.pipeline, rescale_betas_zero_snr=True)


@fault("steps-offset", "sd15", "sd15_pndm", "sdxl")
def _(trial: Trial) -> None:
    scheduler = trial.faulty.pipeline.scheduler
    reconfigure(trial.faulty.pipeline, steps_offset=1 - scheduler.config.steps_offset)


@fault("lcm-uneven-spread", "sd15_lcm", "sd15")
def _(trial: Trial) -> None:
    """The first N entries of a fine list: LCM's list of 50, or DDIM's steps at the spacing of a longer run."""
    scheduler = trial.faulty.pipeline.scheduler
    if trial.faulty.kind == "sd15_lcm":
        spread = "np.linspace(0, len(lcm_origin_timesteps), num=num_inference_steps, endpoint=False)"
        edit(scheduler, "set_timesteps", (spread, "np.arange(num_inference_steps)"))
        return
    fine = trial.draw.choice([20, 50])
    ratio = "step_ratio = self.config.num_train_timesteps // self.num_inference_steps"
    counted = "(np.arange(0, num_inference_steps) * step_ratio)"
    edit(scheduler, "set_timesteps", (ratio, f"step_ratio = self.config.num_train_timesteps // {fine}"),
         (counted, f"(np.arange({fine} - num_inference_steps, {fine}) * step_ratio)"))  # fmt: skip


@fault("penultimate-sigma", "flux", "sd15_euler", "sd15_karras", "sdxl")
def _(trial: Trial) -> None:
    """One level more is made, and the last but one is dropped, as some samplers' rule has it."""
    if trial.faulty.kind == "flux":
        longer = _GRID.replace("num_inference_steps", "(num_inference_steps + 1)")
        edit(trial.faulty.pipeline, "__call__", (_GRID, f"{longer}[:-1]"))
        return
    scheduler = trial.faulty.pipeline.scheduler
    count, done = "self.num_inference_steps = num_inference_steps", "self._step_index = None"
    dropped = "self.timesteps = self.timesteps[:-1]; sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])"
    edit(scheduler, "set_timesteps", (count, f"num_inference_steps += 1; {count}"), (done, f"{dropped}; {done}"))
