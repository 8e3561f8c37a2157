"""Step 2: train text encoders and transformer together, then distil guidance into its embedding.

Flow matching (Lipman et al. 2022, arXiv 2210.02747): noisy = (1 - sigma) * latents + sigma * noise, and the
model predicts velocity = noise - latents.

Guidance distillation (Meng et al. 2022, arXiv 2210.03142): with the scale g as an input, the student learns
in one call what its teacher needs two calls for, v_empty + g * (v_caption - v_empty).
"""

import argparse
import copy
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from architecture import build_pipeline, save_pipeline
from build_tokenizers import LENGTH
from diffusers import AutoencoderKL, FluxPipeline
from evaluate import count_right_drawings, held_out_pairs
from shapes import SIZES, make_dataset
from torch import Tensor, nn
from train_vae import TRAINING_SEEDS, WORK, to_tensor

MODEL = Path(__file__).parents[1] / "models" / "tiny-flux"
DROPPED_CAPTIONS = 0.1
"""Share of captions replaced by "", so that the teacher knows what an empty prompt means."""
GUIDANCE_RANGE = (1.0, 5.0)
UNGUIDED = 0.2
"""Share of distillation samples with guidance scale 1."""


class TrainingSet(NamedTuple):
    """One orientation: packed latents (N, L, 4C), image ids (L, 3) and token ids (N, 16) of both encoders."""

    latents: Tensor
    image_ids: Tensor
    clip_ids: Tensor
    t5_ids: Tensor


class Networks(NamedTuple):
    """What is trained together."""

    transformer: nn.Module
    clip: nn.Module
    t5: nn.Module

    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in a fixed order."""
        return [parameter for module in self for parameter in module.parameters()]


def tokenize(pipeline: FluxPipeline, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids (N, 16) for CLIP and T5, padded as the pipeline pads them."""
    padded = {"padding": "max_length", "max_length": LENGTH, "truncation": True, "return_tensors": "pt"}
    return pipeline.tokenizer(captions, **padded).input_ids, pipeline.tokenizer_2(
        captions, **padded
    ).input_ids


@torch.no_grad()
def encode_set(pipeline: FluxPipeline, number: int, size: tuple[int, int], seed: int) -> TrainingSet:
    """Draws pictures and encodes them once, packed and indexed by the pipeline's own functions."""
    pictures, captions = make_dataset(number, *size, seed)
    vae = pipeline.vae
    parts = [vae.encode(to_tensor(pictures[i : i + 250])).latent_dist.mode() for i in range(0, number, 250)]
    latents = (torch.cat(parts) - vae.config.shift_factor) * vae.config.scaling_factor
    _, channels, height, width = latents.shape
    packed = pipeline._pack_latents(latents, number, channels, height, width)
    image_ids = pipeline._prepare_latent_image_ids(number, height // 2, width // 2, "cpu", torch.float32)
    return TrainingSet(packed, image_ids, *tokenize(pipeline, captions))


def predict_velocity(networks: Networks, noisy, sigma, guidance, image_ids, clip_ids, t5_ids) -> Tensor:
    """One call of the transformer, as FluxPipeline makes it: sigma in [0, 1], T5 pads attended."""
    return networks.transformer(
        hidden_states=noisy,
        timestep=sigma,
        guidance=guidance,
        img_ids=image_ids,
        pooled_projections=networks.clip(clip_ids).pooler_output,
        encoder_hidden_states=networks.t5(t5_ids)[0],
        txt_ids=torch.zeros(LENGTH, 3),
        return_dict=False,
    )[0]


@torch.no_grad()
def guided_velocity(teacher: Networks, noisy, sigma, guidance, image_ids, ids, empty_ids) -> Tensor:
    """Classifier-free guidance by the teacher, both predictions in one batch."""
    clip_ids, t5_ids = (torch.cat([some, empty.expand_as(some)]) for some, empty in zip(ids, empty_ids))
    twice = (torch.cat([noisy, noisy]), torch.cat([sigma, sigma]), torch.ones(2 * len(noisy)))
    with_caption, without = predict_velocity(teacher, *twice, image_ids, clip_ids, t5_ids).chunk(2)
    return without + guidance[:, None, None] * (with_caption - without)


class Trainer:
    """Trains `networks` in two phases that differ only in the target; keeps an average of the weights."""

    def __init__(self, networks: Networks, sets: list[TrainingSet], empty_ids, batch: int):
        self.networks, self.sets, self.empty_ids, self.batch = networks, sets, empty_ids, batch
        self.rng = np.random.default_rng(0)
        self.average = [parameter.detach().clone() for parameter in networks.parameters()]

    def optimizers(self, peak: float) -> list[tuple[torch.optim.Optimizer, float]]:
        """Muon for the matrices inside the blocks (about half of Adam's steps here), AdamW for the rest."""
        named = self.networks.transformer.named_parameters()
        matrices = [p for name, p in named if p.ndim == 2 and "blocks" in name and ".norm" not in name]
        others = [p for p in self.networks.parameters() if not any(p is matrix for matrix in matrices)]
        muon = torch.optim.Muon(
            matrices, lr=2 * peak, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        return [
            (muon, 2 * peak),
            (torch.optim.AdamW(others, lr=peak, weight_decay=0.01, betas=(0.9, 0.99)), peak),
        ]

    def loss(self, some: TrainingSet, teacher: Networks | None) -> Tensor:
        """Mean squared error of the velocity on one random batch of `some`."""
        chosen = torch.from_numpy(self.rng.integers(0, len(some.latents), self.batch))
        dropped = torch.from_numpy(self.rng.random(self.batch) < DROPPED_CAPTIONS)[:, None]
        ids = [
            torch.where(dropped, empty, tokens[chosen])
            for tokens, empty in zip((some.clip_ids, some.t5_ids), self.empty_ids)
        ]
        latents = some.latents[chosen]
        noise = torch.randn_like(latents)
        sigma = torch.sigmoid(1.2 * torch.randn(self.batch) + 0.3)
        noisy = torch.lerp(latents, noise, sigma[:, None, None])
        if teacher is None:
            guidance, target = torch.ones(self.batch), noise - latents
        else:
            low, high = GUIDANCE_RANGE
            guidance = low + (high - low) * torch.rand(self.batch)
            guidance = torch.where(torch.rand(self.batch) < UNGUIDED, 1.0, guidance)
            target = guided_velocity(teacher, noisy, sigma, guidance, some.image_ids, ids, self.empty_ids)
        velocity = predict_velocity(self.networks, noisy, sigma, guidance, some.image_ids, *ids)
        return (velocity - target).square().mean()

    def train(self, steps: int, peak: float, decay: float, teacher: Networks | None, after_500_steps) -> None:
        """`steps` optimiser steps; the orientations alternate. The averaged weights are loaded at the end."""
        parameters, losses, start = self.networks.parameters(), [], time.perf_counter()
        optimizers = self.optimizers(peak)
        for step in range(steps):
            factor = min(1, (step + 1) / 100) * max(0.02, min(1, (1 - step / steps) / 0.6))
            for optimizer, rate in optimizers:
                optimizer.param_groups[0]["lr"] = rate * factor
                optimizer.zero_grad()
            loss = self.loss(self.sets[step % 2], teacher)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer, _ in optimizers:
                optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(self.average, parameters, 1 - min(decay, (step + 1) / (step + 10)))
            losses.append(loss.item())
            if (step + 1) % 100 == 0:
                minutes = (time.perf_counter() - start) / 60
                print(f"step {step + 1}: loss {np.mean(losses[-100:]):.4f}, {minutes:.1f} min", flush=True)
            if (step + 1) % 500 == 0:
                self.swap_average()
                after_500_steps()
                self.swap_average()
        self.swap_average()

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchanges the weights and their average."""
        for parameter, average in zip(self.networks.parameters(), self.average):
            last = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(last)


def main() -> None:
    """Trains both phases and saves the whole pipeline in float16."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--vae", type=Path, default=WORK / "vae", help="from train_vae.py (default: work/vae)"
    )
    parser.add_argument("--steps", type=int, default=3000, help="flow matching steps (default: %(default)s)")
    parser.add_argument("--distillation-steps", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="pictures per step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="AdamW peak; Muon's is twice it")
    parser.add_argument("--pictures", type=int, default=15_000, help="per orientation (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=MODEL, help="where to save (default: data/models/tiny-flux)"
    )
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    pipeline = build_pipeline(AutoencoderKL.from_pretrained(options.vae).eval())
    pipeline.set_progress_bar_config(disable=True)
    sets = [encode_set(pipeline, options.pictures, size, seed) for size, seed in zip(SIZES, TRAINING_SEEDS)]
    networks = Networks(pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2)
    trainer = Trainer(networks, sets, tokenize(pipeline, [""]), options.batch)

    def report(guidance_scale: float) -> None:
        random_state = torch.get_rng_state()
        right = count_right_drawings(pipeline, held_out_pairs(48), steps=12, guidance_scale=guidance_scale)
        torch.set_rng_state(random_state)
        print(f"  drawn right of 48 at guidance scale {guidance_scale}: {right}", flush=True)

    print("flow matching")
    trainer.train(options.steps, options.learning_rate, 0.998, None, lambda: report(1.0))
    print("guidance distillation")
    teacher = Networks(*(copy.deepcopy(module).eval() for module in networks))
    trainer.train(options.distillation_steps, 0.3 * options.learning_rate, 0.99, teacher, lambda: report(3.5))
    report(3.5)
    save_pipeline(pipeline, options.out)


if __name__ == "__main__":
    main()
