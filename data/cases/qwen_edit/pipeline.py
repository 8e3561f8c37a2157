"""Workflow and microservice: one sampler, one network, and a switch for each suspicion of the note."""

import dataclasses
import functools
import hashlib
import io

import numpy as np
import torch
from torch import Tensor

import whydiff
from qwen_edit import nodes

CHANNELS, HEIGHT, WIDTH = 16, 9, 6  # an odd height, as the 147 of the note
OWN_SHIFT = float(np.exp(1.15))  # of the model, where no node sets one
ORDER = ("lora", "aura_flow", "cfg_norm")


@dataclasses.dataclass(frozen=True)
class Service:
    """How the microservice departs from the workflow. Each default is no departure."""

    training_mode: bool = False
    order: tuple[str, ...] = ORDER
    disturb_rng: bool = False  # random numbers drawn before the sampler starts
    through_file: bool = False  # the conditioning's tensor saved with torch.save and loaded again
    keep_metadata: bool = True  # False: the tensor is wrapped as [[tensor, {}]]
    conditioning_dtype: str = "float32"
    negative: str = "blurred"  # "noise" replaces it
    use_cfg_norm: bool = True
    weights_dtype: str = "float32"
    lora_route: str = "merged"
    lora_prefix: str = ""  # another prefix, and no key matches
    shift: float = 3.0
    seed_offset: int = 0
    normalise_output: bool = False  # the latents returned in the sampler's space instead of the autoencoder's


class QwenEdit:
    """The graph with one side's departures; `components` and `scheduler` are what whydiff's probes look for."""

    def __init__(self, service: Service, weights: int = 0):
        from diffusers import FlowMatchEulerDiscreteScheduler

        self.service = service
        model = nodes.Patcher(make_transformer(weights))
        settings = {"lora": (make_lora(model.transformer, weights), 1.0, service.lora_prefix), "aura_flow": (service.shift,), "cfg_norm": ()}
        for name in service.order:
            if name != "cfg_norm" or service.use_cfg_norm:
                model = nodes.NODES[name](model, *settings[name])
        self.after_guidance, self.unmatched = model.after_guidance, model.unmatched
        self.transformer = model.patched(service.lora_route)
        if service.weights_dtype != "float32":  # stored in that type, computed in float32, so that only the rounding shows
            for parameter in self.transformer.parameters():
                parameter.data = parameter.data.to(getattr(torch, service.weights_dtype)).float()
        self.transformer.train(service.training_mode)
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=OWN_SHIFT if model.shift is None else model.shift)
        self.components = {"transformer": self.transformer, "scheduler": self.scheduler}

    def __call__(self, prompt="make it red", cfg=1.0, num_inference_steps=4, seed=12345):
        """The picture, (1, H, W, 3) in [0, 1]: three latent channels stand in for the autoencoder's."""
        latents = self.latents(prompt, cfg, num_inference_steps, seed)
        return whydiff.tap("image", torch.sigmoid(latents[:, :3, 0].movedim(1, -1) / 4))

    @torch.no_grad()
    def latents(self, prompt="make it red", cfg=1.0, num_inference_steps=4, seed=12345) -> Tensor:
        """What the note compared: the sampler's result, (1, C, 1, H, W), in the autoencoder's space."""
        positive = self.conditioning(encode(prompt, picture=True))
        negative = self.conditioning(encode(self.service.negative, picture=True))
        if self.service.disturb_rng:
            torch.rand(7)
        latents = self.sample(positive, negative, cfg, num_inference_steps, seed + self.service.seed_offset)
        mean, std = wan_statistics()
        return whydiff.tap("vae_latents", latents if self.service.normalise_output else latents * std + mean)

    def conditioning(self, conditioning: list) -> list:
        """What reaches the sampler: [[tensor, dict]]."""
        [[tensor, extra]] = conditioning
        if self.service.through_file:
            file = io.BytesIO()
            torch.save(tensor, file)
            file.seek(0)
            tensor = torch.load(file)
        tensor = tensor.to(getattr(torch, self.service.conditioning_dtype)).float()
        return [[tensor, extra if self.service.keep_metadata else {}]]

    def sample(self, positive: list, negative: list, cfg: float, steps: int, seed: int) -> Tensor:
        """KSampler, euler, simple, denoise 1: the generator is seeded here, so nothing before it matters."""
        torch.manual_seed(seed)
        latents = whydiff.tap("initial_noise", torch.randn(1, CHANNELS, 1, HEIGHT, WIDTH, device="cpu"))
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
        for t, sigma in zip(self.scheduler.timesteps, self.scheduler.sigmas):
            denoised = good = latents - sigma * self.predict(latents, sigma, positive)
            if cfg != 1.0:  # at 1 the negative is never evaluated
                bad = latents - sigma * self.predict(latents, sigma, negative)
                denoised = bad + cfg * (good - bad)
            for change in self.after_guidance if cfg != 1.0 else ():
                denoised = change(denoised, good)
            latents = self.scheduler.step((latents - denoised) / sigma, t, latents, return_dict=False)[0]
        return latents

    def predict(self, latents: Tensor, sigma: Tensor, conditioning: list) -> Tensor:
        """The velocity, (1, C, 1, H, W). Of the dict the model reads `reference_latents` alone."""
        [[text, extra]] = conditioning
        pictures = [latents, *extra.get("reference_latents", [])]
        tokens, shapes = zip(*map(pack, pictures))
        out = self.transformer(hidden_states=torch.cat(tokens, 1), timestep=sigma.expand(1), encoder_hidden_states=text,
                               encoder_hidden_states_mask=None, img_shapes=[list(shapes)], return_dict=False)[0]  # fmt: skip
        return unpack(out[:, : tokens[0].shape[1]])


def pack(latents: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """2 x 2 patches as tokens; an odd side is padded by wrapping, as ComfyUI's pad_to_patch_size does."""
    _, _, _, height, width = latents.shape
    x = torch.nn.functional.pad(latents[:, :, 0], (0, width % 2, 0, height % 2), mode="circular")
    rows, columns = x.shape[-2] // 2, x.shape[-1] // 2
    x = x.reshape(1, CHANNELS, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(1, rows * columns, 4 * CHANNELS), (1, rows, columns)


def unpack(tokens: Tensor) -> Tensor:
    rows, columns = (HEIGHT + 1) // 2, (WIDTH + 1) // 2
    x = tokens.reshape(1, rows, columns, CHANNELS, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(1, CHANNELS, 1, 2 * rows, 2 * columns)[..., :HEIGHT, :WIDTH]


def encode(prompt: str, picture: bool) -> list:
    """A stand-in for the edit node: text features with the picture seen in them, and the picture's latents in the dict."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "little")
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, 12, 32, generator=generator)
    if prompt == "noise":
        text = 10 * text
    source = torch.randn(1, CHANNELS, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    return [[text, {"pooled_output": None} | ({"reference_latents": [source]} if picture else {})]]


@functools.cache  # nobody changes it: a patcher copies before it patches
def make_transformer(seed: int) -> torch.nn.Module:
    """diffusers' QwenImageTransformer2DModel, two layers of two heads, with seeded weights."""
    from diffusers import QwenImageTransformer2DModel

    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        made = QwenImageTransformer2DModel(in_channels=4 * CHANNELS, out_channels=CHANNELS, num_layers=2, attention_head_dim=16,
                                           num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 6, 6))  # fmt: skip
    finally:
        torch.set_rng_state(state)
    with torch.no_grad():
        made.proj_out.weight.mul_(4)  # so that the velocity has about the size of the noise, as a trained network's has
    return made.eval()


def make_lora(transformer: torch.nn.Module, seed: int, rank: int = 4) -> dict[str, tuple[Tensor, Tensor]]:
    """Down and up for the projections of the attention, of the size of the weights they change."""
    generator = torch.Generator().manual_seed(seed + 100)
    named = {name: module for name, module in transformer.named_modules() if name.rsplit(".", 1)[-1] in ("to_q", "to_k", "to_v")}
    return {name: (torch.randn(rank, m.in_features, generator=generator) / m.in_features**0.5,
                   torch.randn(m.out_features, rank, generator=generator) / m.out_features**0.5) for name, m in named.items()}  # fmt: skip


def wan_statistics() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the 16 latent channels, (1, 16, 1, 1, 1), from diffusers' defaults for this autoencoder."""
    import inspect

    from diffusers import AutoencoderKLQwenImage

    named = inspect.signature(AutoencoderKLQwenImage.__init__).parameters
    return tuple(torch.tensor(named[key].default).view(1, CHANNELS, 1, 1, 1) for key in ("latents_mean", "latents_std"))


def workflow(weights: int = 0) -> QwenEdit:
    """The ComfyUI graph as it stands in the template."""
    return QwenEdit(Service(), weights)


def microservice(weights: int = 0, **departures) -> QwenEdit:
    """The same nodes driven one by one, with the departures named."""
    if "order" in departures:
        departures["order"] = tuple(departures["order"])
    return QwenEdit(Service(**departures), weights)
