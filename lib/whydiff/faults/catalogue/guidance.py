"""Faults of stage `guidance`: the branches are combined otherwise, or the scale reaches the network otherwise."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch

from whydiff.faults.fault import Host, Trial, fault
from whydiff.faults.rewriting import become, edit

# The line that combines the branches, by host.
_SD = "noise_pred = noise_pred_uncond + self.guidance_scale * (noise_pred_text - noise_pred_uncond)"
_WAN = "noise_pred = noise_uncond + current_guidance_scale * (noise_pred - noise_uncond)"
_FLUX = "noise_pred = neg_noise_pred + true_cfg_scale * (noise_pred - neg_noise_pred)"
_QWEN = "comb_pred = neg_noise_pred + true_cfg_scale * (noise_pred - neg_noise_pred)"
COMBINES = {"wan": (_WAN, "noise_pred", "noise_uncond", "current_guidance_scale"),
            "wan_i2v": (_WAN, "noise_pred", "noise_uncond", "current_guidance_scale"),
            "flux": (_FLUX, "noise_pred", "neg_noise_pred", "true_cfg_scale"),
            "qwen": (_QWEN, "noise_pred", "neg_noise_pred", "true_cfg_scale")}  # fmt: skip
_SD_PARTS = (_SD, "noise_pred_text", "noise_pred_uncond", "self.guidance_scale")


def combine(host: Host, formula: str, **names) -> None:
    """The host combines its branches by `formula`, with {cond}, {uncond}, {scale} and the loop's `i`, `t`, `timesteps`."""
    line, cond, uncond, scale = COMBINES.get(host.kind, _SD_PARTS)
    target = line.partition(" = ")[0]
    edit(host.pipeline, "__call__", (line, f"{target} = {formula.format(cond=cond, uncond=uncond, scale=scale)}"), **names)


@fault("cfg-formula-offset", "sd15", "sd3", "sdxl", "wan", "qwen", "sd15_dpm")
def _(trial: Trial) -> None:
    combine(trial.faulty, "{cond} + {scale} * ({cond} - {uncond})")


@fault("cond-uncond-swapped", "sd15", "sd3", "sdxl", "wan", "qwen", "sd15_euler")
def _(trial: Trial) -> None:
    if trial.faulty.kind in COMBINES:
        combine(trial.faulty, "{cond} + {scale} * ({uncond} - {cond})")
    else:
        chunk = "noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)"
        edit(trial.faulty.pipeline, "__call__", (chunk, "noise_pred_text, noise_pred_uncond = noise_pred.chunk(2)"))


def _zero_star(cond, uncond, scale, i, *, zero_init: bool = True, per_sample: bool = True, project: bool = True):
    """CFG-Zero*: uncond a + s (cond - uncond a), a = <cond, uncond> / |uncond|^2 per sample; nothing at the first step."""
    if zero_init and i == 0:
        return torch.zeros_like(cond)
    rows = (cond.shape[0], -1) if per_sample else (1, -1)
    a, b = cond.reshape(rows), uncond.reshape(rows)
    factor = (a * b).sum(1, keepdim=True) / (b.square().sum(1, keepdim=True) + 1e-8)
    factor = factor.view(-1, *[1] * (cond.ndim - 1)) if project else 1.0
    return uncond * factor + scale * (cond - uncond * factor)


@fault("cfg-zero-star", "sd3", "wan")
def _(trial: Trial) -> None:
    """Both guide by CFG-Zero*; one leaves out its zero first step or its projection, or projects over the whole batch."""
    choices = [{"zero_init": False}, {"project": False}]
    if trial.faulty.kind == "sd3":
        for host in (trial.faulty, trial.healthy):
            host.call["num_images_per_prompt"] = 2
        choices.append({"per_sample": False})
    broken = trial.draw.choice(choices)
    formula = "zero_star({cond}, {uncond}, {scale}, i)"
    combine(trial.healthy, formula, zero_star=_zero_star)
    combine(trial.faulty, formula, zero_star=lambda *parts: _zero_star(*parts, **broken))


@fault("cfg-norm-missing", "qwen", "wan", "sd3")
def _(trial: Trial) -> None:
    if trial.faulty.kind == "qwen":
        edit(trial.faulty.pipeline, "__call__", ("noise_pred = comb_pred * (cond_norm / noise_norm)", "noise_pred = comb_pred"))
        return

    def normed(cond, uncond, scale):
        guided = uncond + scale * (cond - uncond)
        channels = 1  # of (B, C, ...) latents; Qwen-Image's tokens have theirs last
        return guided * (cond.norm(dim=channels, keepdim=True) / guided.norm(dim=channels, keepdim=True))

    combine(trial.healthy, "normed({cond}, {uncond}, {scale})", normed=normed)


@fault("dynamic-cfg-missing", "wan", "sd15", "sd3", "qwen")
def _(trial: Trial) -> None:
    """The healthy side guides by CogVideoX's cosine curve, or linearly; the faulty one by the constant."""
    curve = trial.draw.choice(["cosine", "linear"])

    def scale_at(scale, i, steps):
        done = i / steps
        return 1 + (scale - 1) * (1 - done) if curve == "linear" else 1 + scale * (1 - math.cos(math.pi * (1 - done) ** 5)) / 2

    combine(trial.healthy, "{uncond} + scale_at({scale}, i, len(timesteps)) * ({cond} - {uncond})", scale_at=scale_at)


@fault("cfg-enable-threshold", "sd15", "sdxl", "sd3", "wan")
def _(trial: Trial) -> None:
    """`scale > 0` where `scale > 1` is meant, or guidance only where a negative prompt is given."""
    pipeline = trial.faulty.pipeline
    if trial.draw.random() < 0.5:
        for host in (trial.faulty, trial.healthy):
            host.call["guidance_scale"] = 0.5
        become(pipeline, do_classifier_free_guidance=property(lambda self: self._guidance_scale > 0))
        return
    for host in (trial.faulty, trial.healthy):
        host.call.pop("negative_prompt", None)
    scale = "self._guidance_scale = guidance_scale"
    edit(pipeline, "__call__", (scale, f"{scale}; self._asked_for_negative = negative_prompt is not None"))
    become(pipeline, do_classifier_free_guidance=property(lambda self: self._guidance_scale > 1 and self._asked_for_negative))


@fault("guidance-times-1000", "flux", "flux_port")
def _(trial: Trial) -> None:
    factor = trial.draw.choice([1000.0, 0.001])
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        pipeline.options = dataclasses.replace(pipeline.options, guidance_embed_scale=factor)
    else:
        edit(pipeline, "__call__", ("torch.full([1], guidance_scale,", f"torch.full([1], guidance_scale * {factor},"))


@fault("true-cfg-vs-embedded", "flux", negative_prompt="a red circle")
def _(trial: Trial) -> None:
    """guidance_scale goes to the combination of two branches; the embedding gets 1, or it too."""
    embedded = trial.draw.choice(["1.0", "guidance_scale"])
    edit(trial.faulty.pipeline, "__call__",
         ("do_true_cfg = true_cfg_scale > 1", "true_cfg_scale = guidance_scale; do_true_cfg = true_cfg_scale > 1"),
         ("torch.full([1], guidance_scale,", f"torch.full([1], {embedded},"))  # fmt: skip


def _embeds_no_guidance(network) -> None:
    """The network's embedding of (timestep, pooled text), without a guidance term."""

    def forward(self, timestep, *rest):
        pooled = rest[-1]
        return self.timestep_embedder(self.time_proj(timestep).to(pooled.dtype)) + self.text_embedder(pooled)

    become(network.time_text_embed, forward=forward)


@fault("guidance-tensor-none", "flux")
def _(trial: Trial) -> None:
    _embeds_no_guidance(trial.faulty.pipeline.transformer)
    edit(trial.faulty.pipeline, "__call__", ("guidance = guidance.expand(latents.shape[0])", "guidance = None"))


@fault("guidance-embedder-dropped", "flux")
def _(trial: Trial) -> None:
    """guidance_embeds=False: the embedder is not built, and its weights are skipped on loading."""
    network = trial.faulty.pipeline.transformer
    _embeds_no_guidance(network)
    del network.time_text_embed.guidance_embedder
    network.register_to_config(guidance_embeds=False)


@fault("negative-zeros-vs-empty", "sd15", "sdxl", "sd3", "wan")
def _(trial: Trial) -> None:
    for host in (trial.faulty, trial.healthy):
        host.call.pop("negative_prompt", None)
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "sdxl":
        pipeline.register_to_config(force_zeros_for_empty_prompt=not pipeline.config.force_zeros_for_empty_prompt)
        return
    positions = (1, 3) if trial.faulty.kind == "sd3" else (1,)  # of the negative ones in what encode_prompt returns
    original = type(pipeline).encode_prompt

    @functools.wraps(original)
    def encode_prompt(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        return tuple(torch.zeros_like(part) if k in positions else part for k, part in enumerate(result))

    become(pipeline, encode_prompt=encode_prompt)


@fault("pooled-order-swapped", "sdxl", "sd3")
def _(trial: Trial) -> None:
    name = "add_text_embeds" if trial.faulty.kind == "sdxl" else "pooled_prompt_embeds"
    joined = f"torch.cat([negative_pooled_prompt_embeds, {name}], dim=0)"
    edit(trial.faulty.pipeline, "__call__", (joined, f"torch.cat([{name}, negative_pooled_prompt_embeds], dim=0)"))
