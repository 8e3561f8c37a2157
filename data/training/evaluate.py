"""Measures the shipped tiny-flux against its requirements; exits with 1 when one is missed."""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from checker import check
from diffusers import FluxPipeline
from shapes import SIZES, all_captions, make_dataset
from train_vae import HELD_OUT_SEEDS, measure_psnr, to_tensor

MODEL = Path(__file__).parents[1] / "models" / "tiny-flux"
FIRST_SEED = 10_000
"""Noise seeds of the held-out pairs start here. Training draws its noise from one generator with seed 0."""
BATCH = 24
PARTS = ("colour", "shape", "count", "background", "all")


def load_pipeline(folder: Path = MODEL) -> FluxPipeline:
    """The pipeline in float32, without progress bars."""
    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def held_out_pairs(number: int) -> list[tuple[str, tuple[int, int], int]]:
    """(caption, (width, height), seed): captions at random from the grammar, orientations half and half."""
    captions = np.random.default_rng(FIRST_SEED).choice(all_captions(), number)
    return [(str(caption), SIZES[i >= number // 2], FIRST_SEED + i) for i, caption in enumerate(captions)]


def draw(pipeline: FluxPipeline, captions: list[str], size, seeds: list[int], **call) -> np.ndarray:
    """Pictures (N, height, width, 3), uint8, each from its own seed."""
    images = pipeline(
        prompt=captions,
        width=size[0],
        height=size[1],
        max_sequence_length=16,
        output_type="np",
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        **call,
    ).images
    return (images * 255).round().astype(np.uint8)


def check_drawings(pipeline: FluxPipeline, pairs, steps: int, guidance_scale: float) -> list[dict[str, bool]]:
    """The checker's verdict on every pair, drawn in batches."""
    verdicts = []
    for size in SIZES:
        own = [(caption, seed) for caption, its_size, seed in pairs if its_size == size]
        for start in range(0, len(own), BATCH):
            captions, seeds = zip(*own[start : start + BATCH])
            pictures = draw(
                pipeline,
                list(captions),
                size,
                list(seeds),
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
            )
            verdicts += [check(picture, caption) for picture, caption in zip(pictures, captions)]
    return verdicts


def count_right_drawings(pipeline: FluxPipeline, pairs, steps: int, guidance_scale: float) -> int:
    """How many pairs are right in every respect."""
    return sum(verdict["all"] for verdict in check_drawings(pipeline, pairs, steps, guidance_scale))


def measure_checker(per_orientation: int = 500) -> float:
    """Share of true pictures that the checker calls right in every respect."""
    verdicts = []
    for (width, height), seed in zip(SIZES, HELD_OUT_SEEDS):
        verdicts += [check(*pair)["all"] for pair in zip(*make_dataset(per_orientation, width, height, seed))]
    return float(np.mean(verdicts))


def measure_round_trip(vae, per_orientation: int = 256) -> float:
    """Mean PSNR in dB over held-out pictures, half of them upright."""
    sets = [make_dataset(per_orientation, *size, seed)[0] for size, seed in zip(SIZES, HELD_OUT_SEEDS)]
    return float(np.mean([measure_psnr(vae, to_tensor(pictures)) for pictures in sets]))


def measure_seconds(pipeline: FluxPipeline) -> float:
    """Median wall time of one 12-step picture, of five."""
    seconds = []
    for seed in range(5):
        start = time.perf_counter()
        draw(pipeline, ["a red circle"], SIZES[0], [seed], num_inference_steps=12, guidance_scale=3.5)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Prints one line per requirement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: data/models/tiny-flux")
    parser.add_argument(
        "--pairs", type=int, default=240, help="caption and seed pairs (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    pipeline, pairs = load_pipeline(options.model), held_out_pairs(options.pairs)
    rows = [
        ("checker right on true pictures", measure_checker(), 0.99, "{:.1%}"),
        ("VAE round trip, dB", measure_round_trip(pipeline.vae), 34.0, "{:.2f}"),
    ]
    for steps in (12, 28):
        verdicts = check_drawings(pipeline, pairs, steps, guidance_scale=3.5)
        shares = {part: float(np.mean([verdict[part] for verdict in verdicts])) for part in PARTS}
        parts = ", ".join(f"{part} {share:.1%}" for part, share in shares.items())
        print(f"{steps} steps, {len(pairs)} pairs: {parts}")
        rows.append((f"drawn right at {steps} steps", shares["all"], 0.90, "{:.1%}"))
    rows += [
        ("seconds for a 12-step picture", -measure_seconds(pipeline), -1.0, "{:.3f}"),
        ("size, million bytes", -folder_size(options.model) / 1e6, -4.0, "{:.3f}"),
    ]
    for name, value, limit, form in rows:
        relation, met = "at most" if limit < 0 else "at least", value >= limit
        numbers = f"{form.format(abs(value)):>8}  {relation} {form.format(abs(limit)):<8}"
        print(f"{name:32} {numbers} {'ok' if met else 'MISSED'}")
    sys.exit(not all(value >= limit for _, value, limit, _ in rows))


if __name__ == "__main__":
    main()
