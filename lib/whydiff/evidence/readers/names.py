"""What other tools call tensors, as places: `step_003_noise_pred`, `denoising.latents[4]`, `transformer.blocks.0.attn`."""

from __future__ import annotations

import re

from whydiff import limits
from whydiff.places import STAGE_OF_PROBE, Place, family

# Other frameworks' words for probes of the contract.
ALIASES = {
    "noise": "initial_noise", "init_noise": "initial_noise", "initial_latent": "initial_latents", "init_latents": "initial_latents",
    "latent": "latents", "samples": "latents", "x_t": "latents", "noise_prediction": "noise_pred", "model_output": "noise_pred",
    "velocity": "noise_pred", "v_pred": "noise_pred", "eps_pred": "noise_pred", "noise_pred_cond": "noise_pred_text",
    "text_embeds": "prompt_embeds", "prompt_embed": "prompt_embeds", "cond": "prompt_embeds", "pooled_output": "pooled_prompt_embeds",
    "pooled_embeds": "pooled_prompt_embeds", "negative_embeds": "negative_prompt_embeds", "uncond": "negative_prompt_embeds",
    "token_ids": "input_ids", "tokens": "input_ids", "sigma": "sigmas", "timestep": "timesteps", "decoded_image": "decoded",
    "vae_output": "decoded", "frames": "image", "images": "image", "video": "image", "output_image": "image",
}  # fmt: skip
# `step_003_...`, `..._step12`, `t07-latents`, `latents_3`: the step stands before or behind the name.
_STEP = re.compile(r"(?:^|[_\-./\s\[])(?:denoising_?step|denoise_?step|timestep_?idx|step|iter|t|i)[_\-=]?([0-9]{1,18})(?=$|[_\-./\s\]])",
                   re.IGNORECASE)  # fmt: skip


def place_of(name: str, step: int | None = None, rank: int | None = None) -> Place:
    """The place that a foreign name means. A name with dots or slashes that no probe has is a module's; any other is kept.

    A step written into the name counts from 0, as the contract counts.
    """
    found = _STEP.search(name)
    if found is not None and step is None:
        step = int(found.group(1))
        name = name[: found.start()] + " " + name[found.end() :]
    words = re.sub(r"[\s\-\[\]]+", "_", name.strip()).strip("_./")
    if step is None and (counted := re.fullmatch(r"(.+?)_([0-9]{1,18})", words)) and _probe(counted.group(1)) in _PER_STEP:
        words, step = counted.group(1), int(counted.group(2))
    if step is None and (counted := re.fullmatch(r"([0-9]{1,18})_(.+)", words)) and _probe(counted.group(2)) in _PER_STEP:
        words, step = counted.group(2), int(counted.group(1))
    limits.STEP.check(step or 0, repr(name))
    probe = _probe(words)
    if family(probe) in STAGE_OF_PROBE:
        return Place(probe, step, rank=rank)
    if re.search(r"[./]", words):
        return Place("modules", step, module=words, rank=rank)
    return Place(words or "tensor", step, rank=rank)


_PER_STEP = ("latents", "noise_pred", "noise_pred_text", "noise_pred_uncond", "step_noise", "latent_model_input")


def _probe(word: str) -> str:
    lowered = word.lower()
    return ALIASES.get(lowered, lowered if family(lowered) in STAGE_OF_PROBE else word)
