"""Faults that an earlier run leaves to a later one. The first run of a fresh pipeline is right, unless said otherwise."""

from __future__ import annotations

import inspect

import torch
import torch.nn.functional as F

from whydiff.faults.catalogue.adapters import adapted_layers, low_rank
from whydiff.faults.fault import Host, fault
from whydiff.faults.rewriting import become, edit
from whydiff.faults.surgery import at_each_run, block_linears, matching, wrap


def serve(host: Host, **changes) -> None:
    """An earlier request of the same process: one call with other arguments."""
    arguments = {**host.call, **changes}
    generator = torch.Generator().manual_seed(arguments.pop("seed") + 1)
    with torch.no_grad():
        host.pipeline(**arguments, generator=generator)


@fault("lora-unfuse-residual", "flux", "sd15", "sd3", "wan", "sdxl")
def _(trial):
    """An adapter was fused and taken out again, in fp16; the side has served nothing since."""
    for broken, _healthy in adapted_layers(trial, most=6):
        delta = low_rank(trial, broken, 4, strength=trial.draw.uniform(0.5, 1.5)).half()
        with torch.no_grad():
            broken.weight.copy_(((broken.weight.half() + delta) - delta).float())


@fault("stale-prompt-cache", "sd15", "sdxl", "sd3", "wan", "sd15_inpaint")
def _(trial):
    """Embeddings are kept by the prompt alone. An earlier request had the same prompt and another negative prompt."""
    kept: dict = {}
    signature = inspect.signature(trial.faulty.pipeline.encode_prompt)

    def cached(encode, *args, **kwargs):
        prompt = str(signature.bind(*args, **kwargs).arguments["prompt"])
        if prompt not in kept:
            kept[prompt] = encode(*args, **kwargs)
        return kept[prompt]

    wrap(trial.faulty.pipeline, "encode_prompt", cached)
    serve(trial.faulty, negative_prompt=trial.draw.choice(["one green triangle", "yellow and small", "white"]))


@fault("noise-sampler-reused", "sd15_sde", "sd15_ancestral")
def _(trial):
    """The sampler has its own noise source: made anew for each run on one side, once for all on the other."""
    for host in (trial.faulty, trial.healthy):
        source = torch.Generator().manual_seed(17)
        if host is trial.healthy:
            at_each_run(host, lambda own=source: own.manual_seed(17))

        def step(original, *args, _source=source, **kwargs):
            return original(*args, **{**kwargs, "generator": _source})

        wrap(host.pipeline.scheduler, "step", step)


@fault("stale-control-tensor", "sd15_controlnet")
def _(trial):
    """An earlier request failed, and its hint stayed."""
    from whydiff.faults.hosts.stable_diffusion import picture

    pipeline, kept = trial.faulty.pipeline, {}

    def prepare(original, *args, **kwargs):
        if "hint" not in kept:
            kept["hint"] = original(*args, **kwargs)
        return kept["hint"]

    wrap(pipeline, "prepare_image", prepare)
    turned = picture(trial.faulty.call["height"], trial.faulty.call["width"]).rotate(180)
    serve(trial.faulty, image=turned)


@fault("quant-scale-overwritten", "wan", "wan_i2v", "qwen")
def _(trial):
    """Both sides' weights are quantised. One side casts the scale in place at its first use, so the second branch gets a coarser one."""
    coarse = trial.draw.choice([torch.bfloat16, torch.float8_e4m3fn])
    for layer in trial.draw.sample(block_linears(trial.faulty), 4):
        scale = layer.weight.abs().max() / (448 if coarse is torch.bfloat16 else 7)
        levels = (layer.weight / scale).round()
        for side in (layer, matching(trial, layer)):
            with torch.no_grad():
                side.weight.copy_(levels * scale)
        layer.register_buffer("weight_scale", scale.clone(), persistent=False)

        def forward(_original, x, _layer=layer, _levels=levels):
            result = F.linear(x, _levels * _layer.weight_scale, _layer.bias)
            _layer.weight_scale.copy_(_layer.weight_scale.to(coarse).float())
            return result

        wrap(layer, "forward", forward)


@fault("conv-cache-leak", "wan", "wan_i2v")
def _(trial):
    """Clearing forgets the first convolutions of the decoder."""
    vae = trial.faulty.pipeline.vae
    forgotten = trial.draw.choice([1, 2, 3])

    def clear(original):
        before = getattr(vae, "_feat_map", None)
        original()
        if before is not None:
            vae._feat_map[:forgotten] = before[:forgotten]

    wrap(vae, "clear_cache", clear)


@fault("ambient-autocast", "flux", "flux_port", "sd15", "sd3", "wan")
def _(trial):
    """Whoever calls the pipeline does so inside autocast."""
    original = type(trial.faulty.pipeline).__call__

    def call(self, *args, **kwargs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return original(self, *args, **kwargs)

    call.__signature__ = inspect.signature(original)
    call.__wrapped__ = original
    become(trial.faulty.pipeline, __call__=call)


@fault("shared-sample-object", "flux", "sd15", "sd3")
def _(trial):
    """The sample of a seed is kept and handed out again; the sampler writes its steps into it."""
    pipeline, kept = trial.faulty.pipeline, {}
    signature = inspect.signature(pipeline.prepare_latents)

    def prepare(original, *args, **kwargs):
        bound = signature.bind(*args, **kwargs).arguments
        key = (bound["generator"].initial_seed(), bound["height"], bound["width"])
        if key not in kept:
            kept[key] = original(*args, **kwargs)
        return kept[key]

    def step(original, model_output, timestep, sample, *args, **kwargs):
        result = original(model_output, timestep, sample, *args, **kwargs)
        return (sample.copy_(result[0]), *result[1:])

    wrap(pipeline, "prepare_latents", prepare)
    wrap(pipeline.scheduler, "step", step)


@fault("inplace-modification", "sd15_euler", "sd15_karras", "sdxl", "sd15_ancestral")
def _(trial):
    """Noise given by the caller is multiplied in place by the starting sigma; the caller gives it again."""
    height, width = trial.faulty.call["height"] // 4, trial.faulty.call["width"] // 4
    noise = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(trial.draw.getrandbits(31)))
    for host in (trial.faulty, trial.healthy):
        host.call["latents"] = noise.clone()
    edit(trial.faulty.pipeline, "prepare_latents", ("latents = latents * self.scheduler.init_noise_sigma",
                                                    "latents = latents.mul_(self.scheduler.init_noise_sigma)"))  # fmt: skip
