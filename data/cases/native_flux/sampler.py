"""From noise to latents: the draw, its packing, the noise levels and the loop of Euler steps."""

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from whydiff import tap

from .cuda_noise import cuda_randn
from .options import Options
from .transformer import rotary_embedding


def draw_noise(shape: tuple[int, ...], seed: int | None, device: str, dtype: torch.dtype) -> Tensor:
    """Normals of `shape`, (B, C, h, w). Without a seed they come from torch's global generator."""
    if device == "cuda":
        return cuda_randn(shape, torch.initial_seed() if seed is None else seed).to(dtype)
    generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def pack(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h/2 * w/2, C * 4). Channels vary slowest inside a token, as FLUX expects."""
    return rearrange(latents, "b c (h ph) (w pw) -> b (h w) (c ph pw)", ph=2, pw=2)


def unpack(tokens: Tensor, height: int) -> Tensor:
    """(B, h/2 * w/2, C * 4) -> (B, C, h, w), where `height` is h."""
    return rearrange(tokens, "b (h w) (c ph pw) -> b c (h ph) (w pw)", h=height // 2, ph=2, pw=2)


def image_positions(height: int, width: int) -> Tensor:
    """(h/2 * w/2, 3): an unused axis, the row and the column of each token; height and width are h and w."""
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


def sigma_schedule(steps: int, tokens: int, config: dict, options: Options) -> Tensor:
    """Noise levels (steps + 1,), from 1 (noise) to 0 (image); `tokens` of packed latents set the shift.

    sigma' = s sigma / (1 + (s - 1) sigma), where s = exp(mu) and mu is linear in the number of tokens
    (Esser et al. 2024, arXiv 2403.03206, "Resolution-dependent shifting of timesteps").
    """
    last = 1 / steps if options.sigma_min is None else options.sigma_min
    sigmas = np.linspace(1.0, last, steps).astype(np.float32)
    if options.flow_shift is not None or not config["use_dynamic_shifting"]:
        shift = config["shift"] if options.flow_shift is None else options.flow_shift
        sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    else:
        span = config["max_image_seq_len"] - config["base_image_seq_len"]
        slope = (config["max_shift"] - config["base_shift"]) / span
        intercept = config["base_shift"] - slope * config["base_image_seq_len"]
        mu = tokens * options.mu_token_factor * slope + intercept
        # The same curve as above, in the form that rounds as the reference does.
        sigmas = math.exp(mu) / (math.exp(mu) + (1 / sigmas - 1))
    return torch.from_numpy(np.append(sigmas, 0).astype(np.float32))


def denoise(transformer: nn.Module, latents: Tensor, prompt_embeds: Tensor, pooled: Tensor, positions: Tensor,
            sigmas: Tensor, guidance_scale: float, options: Options) -> Tensor:
    """Integrates the velocity from sigmas[0] to sigmas[-1] with Euler steps.

    latents (B, N, 4C), prompt_embeds (B, L, D), pooled (B, P), positions (N, 3), sigmas (steps + 1,)
    -> latents (B, N, 4C).
    """
    timesteps = tap("timesteps", sigmas[:-1] * 1000)
    for i in range(len(timesteps)):
        velocity = predict(transformer, latents, prompt_embeds, pooled, positions, timesteps[i],
                           guidance_scale, options, step=i)
        if options.negate_velocity:
            velocity = -velocity
        velocity = tap("noise_pred", tap("noise_pred_text", velocity, step=i), step=i)
        moved = latents.float() + (sigmas[i + 1] - sigmas[i]) * velocity
        latents = tap("latents", moved.to(velocity.dtype), step=i)
    return latents


def predict(transformer: nn.Module, latents: Tensor, prompt_embeds: Tensor, pooled: Tensor, positions: Tensor,
            timestep: Tensor, guidance_scale: float, options: Options, step: int) -> Tensor:
    """The velocity (B, N, 4C) at one timestep (a scalar from 0 to 1000)."""
    batch = len(latents)
    unit_timestep = timestep.expand(batch).to(latents.dtype) / 1000 * options.timestep_scale
    image = tap("latent_model_input", latents, step=step)
    unit_timestep = tap("model_input/timestep", unit_timestep, step=step)
    guidance = None
    if transformer.guidance_in is not None:
        guidance = torch.full((batch,), guidance_scale * options.guidance_embed_scale)
        guidance = tap("model_input/guidance", guidance, step=step)
    pooled = tap("model_input/pooled_projections", pooled, step=step)
    text = tap("model_input/encoder_hidden_states", prompt_embeds, step=step)
    text_ids = tap("model_input/txt_ids", positions.new_zeros(text.shape[1], 3), step=step)
    image_ids = tap("model_input/img_ids", positions, step=step)
    rotary = None
    if options.apply_rope:
        rotary = rotary_embedding(torch.cat([text_ids, image_ids]), transformer.axes_dims)
    return transformer(image, text, pooled, unit_timestep, guidance, rotary)
