"""Make tiny-wan: a two-expert Wan2.2 pipeline with random weights, for schedule and expert switch only."""

import argparse
from pathlib import Path

import torch
from architecture import save_pipeline
from build_tokenizers import build_t5_tokenizer
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

MODEL = Path(__file__).parents[1] / "models" / "tiny-wan"
LENGTH = 32
TEXT_WIDTH = 32


def build_expert() -> WanTransformer3DModel:
    """One of the two denoisers; both have the same sizes and different random weights."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=48,
        num_layers=2,
        rope_max_seq_len=32,
    )


def build_pipeline(seed: int, flow_shift: float = 3.0) -> WanPipeline:
    """Boundary and flow_shift as in the checkpoint Wan2.2-T2V-A14B-Diffusers; everything else is small."""
    torch.manual_seed(seed)
    tokenizer = build_t5_tokenizer(LENGTH)
    text_encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
        num_train_timesteps=1000,
        solver_order=2,
    )
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        scheduler=scheduler,
        transformer=build_expert(),
        transformer_2=build_expert(),
        boundary_ratio=0.875,
    )


def main() -> None:
    """Builds and saves; there is nothing to train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=MODEL, help="where to save (default: data/models/tiny-wan)"
    )
    options = parser.parse_args()
    pipeline = build_pipeline(options.seed)
    pipeline.vae.eval()
    save_pipeline(pipeline, options.out)
    print(f"saved {options.out.name}")


if __name__ == "__main__":
    main()
