"""Prompt in, image out: the port's counterpart of diffusers' FluxPipeline."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whydiff import tap

from .autoencoder import AutoEncoder
from .convert import load_component, read_config
from .options import Options
from .sampler import denoise, draw_noise, image_positions, pack, sigma_schedule, unpack
from .text_encoders import ClipTextEncoder, T5Encoder, TextTokenizer
from .transformer import FluxTransformer

COMPONENTS = {"text_encoder": ClipTextEncoder, "text_encoder_2": T5Encoder, "transformer": FluxTransformer,
              "vae": AutoEncoder}
DEFAULT_SAMPLE_SIZE = 128  # FluxPipeline's, in latent pixels


@dataclass(frozen=True)
class PortOutput:
    images: np.ndarray  # (B, H, W, 3), float32 in [0, 1]


class NativeFluxPipeline:
    """FLUX without diffusers, from a diffusers folder. `options` are the fields of Options."""

    def __init__(self, folder: str | Path, **options):
        folder = Path(folder)
        self.options = Options(**options)
        self.dtype = getattr(torch, self.options.dtype)
        self.tokenizer = TextTokenizer(folder / "tokenizer")
        self.tokenizer_2 = TextTokenizer(folder / "tokenizer_2")
        for name, build in COMPONENTS.items():
            setattr(self, name, load_component(folder, name, build, self.dtype))
        self.vae_config = read_config(folder / "vae" / "config.json")
        self.schedule_config = read_config(folder / "scheduler" / "scheduler_config.json")

    @property
    def components(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in COMPONENTS}

    def __call__(self, prompt: str | list[str], height: int | None = None, width: int | None = None,
                 num_inference_steps: int | None = None, guidance_scale: float | None = None,
                 max_sequence_length: int | None = None, seed: int | None = None) -> PortOutput:
        """One image per prompt. What is None is the port's own default (see Options)."""
        options = self.options
        factor = 2 ** (len(self.vae_config["block_out_channels"]) - 1)
        height = height or DEFAULT_SAMPLE_SIZE * factor
        width = width or DEFAULT_SAMPLE_SIZE * factor
        if options.width_first:
            height, width = width, height
        height, width = (2 * (int(size) // (2 * factor)) for size in (height, width))
        steps = options.default_num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = options.default_guidance_scale if guidance_scale is None else guidance_scale
        length = options.default_max_sequence_length if max_sequence_length is None else max_sequence_length
        prompts = [prompt] if isinstance(prompt, str) else prompt
        with torch.no_grad():
            prompt_embeds, pooled = self.encode(prompts, length)
            latents = self.start(len(prompts), height, width, options.default_seed if seed is None else seed)
            sigmas = tap("sigmas", sigma_schedule(steps, latents.shape[1], self.schedule_config, options))
            positions = image_positions(height, width).to(self.dtype)
            latents = denoise(self.transformer, latents, prompt_embeds, pooled, positions, sigmas,
                              guidance_scale, options)
            image = self.decode(latents, height)
        image = (image.float() / 2 + 0.5).clamp(0, 1)
        return PortOutput(images=image.permute(0, 2, 3, 1).numpy())

    def encode(self, prompts: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Prompts -> T5's embeddings (B, L, D) and CLIP's pooled ones (B, P)."""
        ids = tap("input_ids", self.tokenizer(prompts, self.tokenizer.max_length))
        pooled = tap("pooled_prompt_embeds", self.text_encoder(ids))
        ids = tap("input_ids_2", self.tokenizer_2(prompts, length))
        attend_to = ids != self.tokenizer_2.pad_id if self.options.mask_text_padding else None
        return tap("prompt_embeds", self.text_encoder_2(ids, attend_to)), pooled

    def start(self, batch: int, height: int, width: int, seed: int | None) -> Tensor:
        """Packed noise (B, N, 4C); height and width are those of the latents."""
        shape = (batch, self.vae_config["latent_channels"], height, width)
        drawn_in = getattr(torch, self.options.noise_dtype or self.options.dtype)
        noise = draw_noise(shape, seed, self.options.generator_device, drawn_in).to(self.dtype)
        return tap("initial_latents", pack(tap("initial_noise", noise)))

    def decode(self, latents: Tensor, height: int) -> Tensor:
        """Packed latents (B, N, 4C) -> image (B, 3, H, W), about -1 to 1."""
        latents = unpack(latents, height)
        if self.options.apply_vae_scaling_factor:
            latents = latents / self.vae_config["scaling_factor"]
        if self.options.apply_vae_shift_factor:
            latents = latents + self.vae_config["shift_factor"]
        return tap("decoded", self.vae.decode(tap("vae_latents", latents)))
