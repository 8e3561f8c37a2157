"""Step 1: train the VAE, with latents whose mean is far from zero, so that shift_factor matters."""

import argparse
from pathlib import Path

import numpy as np
import torch
from architecture import LATENT_CHANNELS, build_vae
from diffusers import AutoencoderKL
from shapes import SIZES, make_dataset
from torch.nn.functional import l1_loss, mse_loss

WORK = Path(__file__).parent / "work"
TRAINING_SEEDS, HELD_OUT_SEEDS = (1, 2), (101, 102)
"""Seeds of the picture sets, one per orientation."""
LATENT_MEAN = 1.0
"""Where the encoder's mean starts. Left alone it stays near 0, and a dropped shift_factor would not show."""
LATENT_NOISE = 0.05
"""Noise added to half of the latents, because the flow model's latents are not perfect either."""
EMA_DECAY = 0.995


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3), uint8 -> (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, pictures: torch.Tensor, shift: float = 0.0, scale: float = 1.0) -> float:
    """Mean PSNR in dB of the round trip; `shift` and `scale` spoil the latents on purpose."""
    restored = vae.decode(vae.encode(pictures).latent_dist.mode() * scale + shift).sample.clamp(-1, 1)
    error = ((restored - pictures) ** 2).mean(dim=(1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Short warm-up, constant to 40 %, then linearly down to 2 %."""
    return peak * min(1, (step + 1) / 50) * max(0.02, min(1, (1 - step / steps) / 0.6))


def train(vae, pictures: list[torch.Tensor], steps: int, batch: int, peak: float, held_out) -> None:
    """Trains in place; the orientations alternate. The averaged weights replace the last ones at the end."""
    rng = np.random.default_rng(0)
    parameters = list(vae.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-4, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak)
        chosen = pictures[step % 2]
        target = chosen[torch.from_numpy(rng.integers(0, len(chosen), batch))]
        posterior = vae.encode(target).latent_dist
        latents = posterior.sample()
        noisy = (torch.rand(batch, 1, 1, 1) < 0.5) * LATENT_NOISE
        restored = vae.decode(latents + noisy * torch.randn_like(latents)).sample
        divergence = posterior.kl().mean() / latents[0].numel()
        loss = mse_loss(restored, target) + 0.1 * l1_loss(restored, target) + 1e-5 * divergence
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(EMA_DECAY, (step + 1) / (step + 10)))
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}: loss {loss.item():.5f}, {measure_psnr(vae, held_out):.2f} dB", flush=True
            )
    with torch.no_grad():
        for parameter, mean in zip(parameters, average):
            parameter.copy_(mean)


@torch.no_grad()
def register_latent_statistics(vae: AutoencoderKL, pictures: list[torch.Tensor]) -> None:
    """shift_factor = mean, scaling_factor = 1 / standard deviation of the latents, over both orientations."""
    latents = torch.cat([vae.encode(some[:512]).latent_dist.mode().flatten() for some in pictures])
    shift, scale = float(latents.mean()), float(1 / latents.std())
    vae.register_to_config(shift_factor=round(shift, 4), scaling_factor=round(scale, 4))


def main() -> None:
    """Trains, prints the round trip with and without the factors, saves the VAE."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="pictures per step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=10_000, help="per orientation (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=WORK / "vae", help="where to save (default: work/vae)")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sets = [make_dataset(options.pictures, *size, seed)[0] for size, seed in zip(SIZES, TRAINING_SEEDS)]
    pictures = [to_tensor(some).contiguous(memory_format=torch.channels_last) for some in sets]
    held_out = to_tensor(make_dataset(128, *SIZES[0], HELD_OUT_SEEDS[0])[0])
    vae = build_vae().to(memory_format=torch.channels_last)
    with torch.no_grad():
        vae.encoder.conv_out.bias[:LATENT_CHANNELS] += LATENT_MEAN
    train(vae, pictures, options.steps, options.batch, options.learning_rate, held_out)

    vae.eval()
    register_latent_statistics(vae, pictures)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    print(f"shift_factor {shift}, scaling_factor {scale}")
    for (width, height), seed in zip(SIZES, HELD_OUT_SEEDS):
        unseen = to_tensor(make_dataset(256, width, height, seed)[0])
        print(
            f"{width}x{height}: round trip {measure_psnr(vae, unseen):.2f} dB, "
            f"shift dropped {measure_psnr(vae, unseen, shift=-shift):.2f} dB, "
            f"scale dropped {measure_psnr(vae, unseen, scale=scale):.2f} dB"
        )
    vae.to(memory_format=torch.contiguous_format).save_pretrained(options.out)


if __name__ == "__main__":
    main()
