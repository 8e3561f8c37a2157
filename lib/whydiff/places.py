"""Places: where in the pipeline a tensor was seen, and in which order places are walked."""

from __future__ import annotations

import dataclasses
import re

STAGE_OF_PROBE = {
    "settings": "parameters",
    "environment": "parameters",
    "init_image": "latent_handling",
    "mask": "latent_handling",
    "image_latents": "latent_handling",
    "initial_noise": "rng_noise",
    "initial_latents": "latent_handling",
    "input_ids": "prompt_encoding",
    "attention_mask": "prompt_encoding",
    "prompt_embeds": "prompt_encoding",
    "pooled_prompt_embeds": "prompt_encoding",
    "negative_prompt_embeds": "prompt_encoding",
    "negative_pooled_prompt_embeds": "prompt_encoding",
    "image_embeds": "prompt_encoding",
    "sigmas": "schedule",
    "timesteps": "schedule",
    "alphas_cumprod": "schedule",
    "latent_model_input": "model_forward",
    "model_input": "model_forward",
    "noise_pred_uncond": "model_forward",
    "noise_pred_text": "model_forward",
    "noise_pred": "guidance",
    "step_noise": "rng_noise",
    "latents": "scheduler_step",
    "vae_latents": "latent_handling",
    "decoded": "vae",
    "image": "post_processing",
}

STAGES = ("parameters", "rng_noise", "prompt_encoding", "schedule", "model_forward", "guidance", "scheduler_step",
          "latent_handling", "vae", "post_processing", "caching_parallel", "state_leakage")  # fmt: skip

# The order in which probes are walked, whatever order code runs in. Probes with one number belong together.
_BEFORE_STEPS = ("settings", "environment", "init_image", "mask", "image_latents", "initial_noise", "initial_latents",
                 "input_ids", "attention_mask", "image_embeds", "prompt_embeds", "pooled_prompt_embeds",
                 "negative_prompt_embeds", "negative_pooled_prompt_embeds", "sigmas", "timesteps",
                 "alphas_cumprod")  # fmt: skip
_IN_STEP = ("latent_model_input", "model_input", "modules", "noise_pred_uncond", "noise_pred_text", "noise_pred",
            "step_noise", "latents")  # fmt: skip
_AFTER_STEPS = ("vae_latents", "decoded", "image")

_COMPONENT_STAGE = (("text_encoder", "prompt_encoding"), ("image_encoder", "prompt_encoding"), ("vae", "vae"))


def family(probe: str) -> str:
    """The probe's name without encoder suffix and argument: `input_ids_2` -> `input_ids`, `model_input/timestep` -> `model_input`."""
    head = probe.split("/", 1)[0]
    return head if head in STAGE_OF_PROBE else re.sub(r"_\d+$", "", head)


def stage_of(probe: str, module: str | None = None) -> str:
    """The stage a probe belongs to; probe `modules` has the stage of its component."""
    if probe.split("/")[0] == "modules":
        component = (module or "").split("/", 1)[0]
        return next((stage for name, stage in _COMPONENT_STAGE if component.startswith(name)), "model_forward")
    return STAGE_OF_PROBE.get(family(probe), "model_forward")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tensor was seen. `step` counts from 0; `occurrence` counts repeats within a step and branch from 0; `rank` is the
    process of a parallel run that saw it."""

    probe: str
    step: int | None = None
    branch: str | None = None
    occurrence: int = 0
    module: str | None = None
    rank: int | None = None

    @property
    def stage(self) -> str:
        return stage_of(self.probe, self.module)

    def __str__(self) -> str:
        where = [self.probe if self.module is None else self.module]
        if self.step is not None:
            where.append(f"step {self.step}")
        if self.branch:
            where.append(self.branch)
        if self.occurrence:
            where.append(f"occurrence {self.occurrence}")
        if self.rank is not None:
            where.append(f"rank {self.rank}")
        return ", ".join(where)

    def to_dict(self) -> dict:
        """The keys a verdict carries for this place; what does not apply is null."""
        place = {"stage": self.stage, "probe": self.probe, "step": self.step, "module": self.module}
        if self.branch is not None:
            place["branch"] = self.branch
        if self.occurrence:
            place["occurrence"] = self.occurrence
        if self.rank is not None:
            place["rank"] = self.rank
        return place


def walk_key(place: Place) -> tuple:
    """Sort key of the walk: before the loop, then step by step, then decoding (contract, "Places and probes").

    Probes of the contract that a family does not list (a further `model_input/...`) sort inside their family; a name
    nobody knows is walked with the model's inputs of its step, or right before the loop.
    """
    name = family(place.probe)
    if place.probe.startswith("modules") and place.stage == "prompt_encoding":
        return (0, 0, _BEFORE_STEPS.index("prompt_embeds") - 0.5, "", place.occurrence)
    if place.probe.startswith("modules") and place.stage == "vae":
        return (2, 0, _AFTER_STEPS.index("decoded") - 0.5, "", place.occurrence)
    if name in _BEFORE_STEPS:
        return (0, 0, _BEFORE_STEPS.index(name), place.probe, place.occurrence)
    if name in _AFTER_STEPS:
        return (2, 0, _AFTER_STEPS.index(name), place.probe, place.occurrence)
    rank = _IN_STEP.index(name) if name in _IN_STEP else _IN_STEP.index("model_input")
    branch = {"uncond": 1, "cond": 2}.get(place.branch, 0)
    return (1, -1 if place.step is None else place.step, rank, place.probe, branch, place.occurrence)
