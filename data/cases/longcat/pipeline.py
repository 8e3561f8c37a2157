"""Sampling with the small DiT, as the original's pipeline and as the port's stage do it. Also the sides that cases compare."""

import hashlib
import inspect
import types

import torch
from torch import Tensor

import whydiff
from longcat import original, port
from longcat.convert import convert
from longcat.parts import Shape, randomise

TOKENS = 16  # 512 in the real one
WEIGHTS = 7  # seed of the checkpoint that both sides load


class LongCat:
    """Text to video latents and a picture. `components` and `scheduler` are what whydiff's probes look for."""

    def __init__(self, dit, set_timesteps, guide, pass_mask=True, negate=True, by_position=False):
        from diffusers import FlowMatchEulerDiscreteScheduler

        self.transformer, self.scheduler = dit.eval(), FlowMatchEulerDiscreteScheduler(shift=original.SHIFT)
        self.set_timesteps, self.guide, self.by_position = set_timesteps, guide, by_position
        self.pass_mask, self.negate = pass_mask, negate
        self.components = {"transformer": self.transformer, "scheduler": self.scheduler}

    def predict(self, latents: Tensor, timestep: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """What the network says; both frameworks call it by keyword."""
        if self.by_position:
            return self.transformer(latents, timestep, text, mask)
        return self.transformer(hidden_states=latents, timestep=timestep, encoder_hidden_states=text,
                                encoder_attention_mask=mask if self.pass_mask else None)  # fmt: skip

    def to_scheduler(self, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
        """The value that the scheduler receives: guided and negated."""
        guided = self.guide(cond, uncond, scale)
        return -guided if self.negate else guided

    @torch.no_grad()
    def __call__(self, prompt="a cat", negative_prompt="blurred", height=64, width=96, num_frames=9, num_inference_steps=4,
                 guidance_scale=4.0, seed=0):  # fmt: skip
        shape = (1, 16, (num_frames - 1) // 4 + 1, height // 8, width // 8)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        latents = whydiff.tap("initial_noise", noise)
        text, mask = encode(prompt)
        bad, bad_mask = encode(negative_prompt)
        text, bad = whydiff.tap("prompt_embeds", text), whydiff.tap("negative_prompt_embeds", bad)
        self.set_timesteps(self.scheduler, num_inference_steps)
        for t in self.scheduler.timesteps:
            timestep = t.expand(shape[0])
            cond = self.predict(latents, timestep, text, mask)
            uncond = self.predict(latents, timestep, bad, bad_mask)
            latents = self.scheduler.step(self.to_scheduler(cond, uncond, guidance_scale), t, latents, return_dict=False)[0]
        mean, std = wan_statistics()
        latents = whydiff.tap("vae_latents", latents * std + mean)
        return whydiff.tap("image", decode(latents))


def wan_statistics() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the Wan VAE's 16 latent channels, (1, 16, 1, 1, 1), from diffusers' defaults."""
    from diffusers import AutoencoderKLWan

    named = inspect.signature(AutoencoderKLWan.__init__).parameters
    return tuple(torch.tensor(named[key].default).view(1, 16, 1, 1, 1) for key in ("latents_mean", "latents_std"))


def decode(latents: Tensor) -> Tensor:
    """(1, C, T, H, W) -> (1, H, W, 3) in [0, 1]: a fixed projection of the first frame stands in for the VAE."""
    weight = torch.randn(3, latents.shape[1], generator=torch.Generator().manual_seed(1)) / 8
    return torch.sigmoid(torch.einsum("oc,bchw->bhwo", weight, latents[:, :, 0]))


def encode(prompt: str) -> tuple[Tensor, Tensor]:
    """A stand-in for UMT5: (1, L, D) with a row for each word and zeros behind, and the (1, L) mask of what is text."""
    rows = torch.zeros(1, TOKENS, Shape().text)
    words = (prompt.split() or [""])[: TOKENS - 1] + ["</s>"]
    for i, word in enumerate(words):
        seed = int.from_bytes(hashlib.sha256(f"{i} {word}".encode()).digest()[:4], "little")
        rows[0, i] = torch.randn(rows.shape[-1], generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(1, TOKENS, dtype=torch.int64)
    mask[:, : len(words)] = 1
    return rows, mask


def reference(dtype="float32", blocks=4, weights=WEIGHTS) -> LongCat:
    """The original's build."""
    dit = randomise(original.OriginalDiT(Shape(blocks=blocks)), weights).to(getattr(torch, dtype))
    return LongCat(dit, original.set_timesteps, original.guide)


def candidate(dtype="float32", blocks=4, weights=WEIGHTS, **options) -> LongCat:
    """The port, healthy unless `options` (port.Options) say otherwise. Weights are loaded as the port does: not strictly."""
    chosen = port.Options(**options)
    shape = Shape(blocks=blocks)
    dit = randomise(port.PortDiT(shape, chosen), weights + 1000)
    if chosen.load_weights:
        dit.load_state_dict(convert(randomise(original.OriginalDiT(shape), weights).state_dict()), strict=False)
    steps = original.set_timesteps if chosen.pass_sigmas else lambda scheduler, n: scheduler.set_timesteps(n)
    guide = port.guide if chosen.guidance == "zero" else port.guide_plain
    return LongCat(dit.to(getattr(torch, dtype)), steps, guide, chosen.pass_mask, chosen.negate, chosen.by_position)


def strict_loading(side: LongCat, weights=WEIGHTS, blocks=4) -> types.SimpleNamespace:
    """Which tensors of the converted checkpoint a port has no place for, which it misses, and which it holds with other values."""
    file = convert(randomise(original.OriginalDiT(Shape(blocks=blocks)), weights).state_dict())
    own = side.transformer.state_dict()
    unequal = [name for name in own if name in file and not torch.equal(own[name].float(), file[name].to(own[name].dtype).float())]
    return types.SimpleNamespace(unexpected=sorted(set(file) - set(own)), missing=sorted(set(own) - set(file)), unequal=unequal)
