"""Faults of stage `rng_noise`: other random numbers, or the right ones at another scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from whydiff.faults.fault import Host, Trial, fault
from whydiff.faults.rewriting import edit, requests

_DRAWN_ONCE = ("flux", "sd15", "wan", "sd3", "sdxl", "qwen")  # hosts that draw their noise in prepare_latents alone


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draws(host: Host, draw: Callable) -> None:
    """The pipeline takes its initial noise from `draw`, called as diffusers' `randn_tensor` is."""
    edit(host.pipeline, "prepare_latents", randn_tensor=draw)


@fault("generator-device", "flux_port")
def _(trial: Trial) -> None:
    pipeline = trial.faulty.pipeline
    pipeline.options = dataclasses.replace(pipeline.options, generator_device="cuda")


@fault("randn-dtype", *_DRAWN_ONCE, "flux_port")
def _(trial: Trial) -> None:
    name = trial.draw.choice(["bfloat16", "float16"])
    if trial.faulty.kind == "flux_port":
        pipeline = trial.faulty.pipeline
        pipeline.options = dataclasses.replace(pipeline.options, noise_dtype=name)
        return

    def draw(shape, generator=None, device=None, dtype=None):
        return torch.randn(shape, generator=generator, dtype=getattr(torch, name)).to(device, dtype)

    _draws(trial.faulty, draw)


@fault("gpu-randn-hardware-dependent", *_DRAWN_ONCE)
def _(trial: Trial) -> None:
    """Another launch geometry: past what one wave of threads draws, blocks come in another order."""
    wave, blocks = trial.draw.choice([1 / 4, 1 / 2]), trial.draw.choice([2, 4])
    order = torch.randperm(blocks, generator=_stream(trial.draw.getrandbits(31)))
    order = order if (order != torch.arange(blocks)).all() else torch.arange(blocks).roll(1)

    def draw(shape, generator=None, device=None, dtype=None):
        numbers = torch.randn(shape, generator=generator, dtype=dtype).flatten()
        alone = numbers.numel() - int(numbers.numel() * (1 - wave)) // blocks * blocks
        rest = numbers[alone:].unflatten(0, (blocks, -1))[order].flatten()
        return torch.cat([numbers[:alone], rest]).view(shape).to(device)

    _draws(trial.faulty, draw)


@fault("rng-consumed-by-earlier-draw", *_DRAWN_ONCE, "sd15_img2img")
def _(trial: Trial) -> None:
    """A posterior sample of the latents' size, a dropout mask or a warm-up of its own is drawn first."""
    before = trial.draw.choice(["posterior", "dropout", "warm-up"])
    count = trial.draw.randrange(32, 512)

    def draw(shape, generator=None, device=None, dtype=None):
        if before == "dropout":
            torch.rand(count, generator=generator)
        else:
            torch.randn(shape if before == "posterior" else (count,), generator=generator)
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    _draws(trial.faulty, draw)


@fault("per-frame-seed-rule", "wan", num_frames=13)
def _(trial: Trial) -> None:
    """Both draw latent frame by latent frame: one goes on in the stream, the other seeds each frame (by latent or pixel index)."""
    stride = trial.draw.choice([1, trial.faulty.pipeline.vae_scale_factor_temporal])

    def by_frame(rule):
        def draw(shape, generator=None, device=None, dtype=None):
            one = (*shape[:2], 1, *shape[3:])
            frames = [torch.randn(one, generator=rule(generator, index), dtype=dtype) for index in range(shape[2])]
            return torch.cat(frames, dim=2).to(device)

        return draw

    _draws(trial.healthy, by_frame(lambda generator, _index: generator))
    _draws(trial.faulty, by_frame(lambda generator, index: _stream(generator.initial_seed() + stride * index)))


def _seeds_per_image(host: Host, order: Callable[[int], list[int]]) -> None:
    """The request's seed becomes a list of generators, one per image; `order` says which generator each image gets."""

    def split(arguments):
        seed, many = arguments["generator"].initial_seed(), arguments["num_images_per_prompt"]
        generators = [_stream(seed + k) for k in range(many)]
        arguments["generator"] = [generators[k] for k in order(many)]

    requests(host.pipeline, split)


@fault("generator-list-shared-object", "flux", "sd15", "sd3", num_images_per_prompt=4)
def _(trial: Trial) -> None:
    shared = trial.draw.choice([[0, 1, 0, 1], [0, 0, 2, 3], [0, 1, 2, 0]])
    _seeds_per_image(trial.healthy, lambda many: list(range(many)))
    _seeds_per_image(trial.faulty, lambda many: [shared[k % len(shared)] for k in range(many)])


@fault("batch-single-generator", "flux", "sd15", "sd3", "sdxl", num_images_per_prompt=3)
def _(trial: Trial) -> None:
    _seeds_per_image(trial.healthy, lambda many: list(range(many)))


@fault("init-noise-sigma-missing", "sd15_euler", "sd15_karras", "sd15_ancestral", "sd15_heun", "sdxl")
def _(trial: Trial) -> None:
    edit(trial.faulty.pipeline, "prepare_latents", ("latents = latents * self.scheduler.init_noise_sigma", "latents = latents"))


@fault("scale-model-input-missing", "sd15_euler", "sd15_karras", "sd15_ancestral", "sd15_heun", "sdxl")
def _(trial: Trial) -> None:
    scaled = "self.scheduler.scale_model_input(latent_model_input, t)"
    edit(trial.faulty.pipeline, "__call__", (f"latent_model_input = {scaled}", "latent_model_input = latent_model_input"))


@fault("per-step-noise-global-rng", "sd15_ancestral", "sd15_lcm", "sd15_sde")
def _(trial: Trial) -> None:
    """`torch.randn_like`, or the library's draw without the request's generator."""

    def like(shape, generator=None, device=None, dtype=None):
        return torch.randn_like(torch.empty(shape, dtype=dtype, device=device))

    scheduler = trial.faulty.pipeline.scheduler
    if trial.draw.random() < 0.5:
        edit(scheduler, "step", randn_tensor=like)
    else:
        edit(scheduler, "step", ("generator=generator", "generator=None"))


@fault("brownian-noise-batch-dependent", "sd15_sde", "sd15_ancestral", num_images_per_prompt=3)
def _(trial: Trial) -> None:
    """Both take the steps' noise from Brownian paths: one path per sample, seeded seed + k, or one for the whole batch."""

    def path(per_sample: bool):
        def increment(shape, generator=None, device=None, dtype=None):
            entropy = int(torch.randint(2**31, (1,), generator=generator))
            if not per_sample:
                return torch.randn(shape, generator=_stream(entropy), dtype=dtype).to(device)
            return torch.cat([torch.randn((1, *shape[1:]), generator=_stream(entropy + k), dtype=dtype) for k in range(shape[0])]).to(device)

        return increment

    edit(trial.healthy.pipeline.scheduler, "step", randn_tensor=path(per_sample=True))
    edit(trial.faulty.pipeline.scheduler, "step", randn_tensor=path(per_sample=False))
