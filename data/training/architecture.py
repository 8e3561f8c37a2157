"""Sizes of tiny-flux: every component is the class that FLUX.1-dev uses, only smaller."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from build_tokenizers import LENGTH, build_clip_tokenizer, build_t5_tokenizer
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

POOLED_WIDTH, TEXT_WIDTH = 32, 48
HEADS, HEAD_WIDTH, ROPE_AXES = 4, 24, (8, 8, 8)
DOUBLE_BLOCKS, SINGLE_BLOCKS = 2, 4
LATENT_CHANNELS, VAE_WIDTHS = 4, (16, 32, 32)


def build_vae() -> AutoencoderKL:
    """A VAE that shrinks each side by 4. As in FLUX.1-dev it has no quant convolutions."""
    levels = len(VAE_WIDTHS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler configuration of FLUX.1-dev."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def build_text_encoders(clip_tokenizer, t5_tokenizer) -> tuple[CLIPTextModel, T5EncoderModel]:
    """Two layers each. The end-of-text id must not be 2: that selects an old pooling rule in CLIP."""
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=POOLED_WIDTH,
            intermediate_size=2 * POOLED_WIDTH,
            projection_dim=POOLED_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            pad_token_id=clip_tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=16,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=TEXT_WIDTH // 16,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            use_cache=False,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            is_encoder_decoder=False,
            tie_word_embeddings=False,
        )
    )
    return clip, t5


def build_transformer() -> FluxTransformer2DModel:
    """Modulation and output start at zero: every block begins as the identity (Peebles and Xie 2022, DiT)."""
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=DOUBLE_BLOCKS,
        num_single_layers=SINGLE_BLOCKS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=ROPE_AXES,
    )
    zeroed = [transformer.norm_out.linear, transformer.proj_out]
    zeroed += [
        norm.linear for block in transformer.transformer_blocks for norm in (block.norm1, block.norm1_context)
    ]
    zeroed += [block.norm.linear for block in transformer.single_transformer_blocks]
    for layer in zeroed:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return transformer


def build_pipeline(vae: AutoencoderKL) -> FluxPipeline:
    """An untrained tiny-flux around `vae`. Call torch.manual_seed first."""
    clip_tokenizer, t5_tokenizer = build_clip_tokenizer(), build_t5_tokenizer()
    clip, t5 = build_text_encoders(clip_tokenizer, t5_tokenizer)
    return FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=clip,
        tokenizer=clip_tokenizer,
        text_encoder_2=t5,
        tokenizer_2=t5_tokenizer,
        transformer=build_transformer(),
    )


def remove_paths(folder: Path) -> None:
    """Takes `_name_or_path`, a path of the machine that trained, out of every configuration."""
    for path in [folder / "model_index.json", *folder.glob("*/config.json")]:
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def save_pipeline(pipeline, folder: Path) -> None:
    """Writes the pipeline in float16 and puts it at `folder` in one move, so that no reader meets half of it.

    A README.md (the model card) that is already there is kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as workshop:
        new, old = Path(workshop, "new"), Path(workshop, "old")
        for tokenizer in (getattr(pipeline, "tokenizer", None), getattr(pipeline, "tokenizer_2", None)):
            if tokenizer is not None:
                tokenizer.backend_tokenizer.no_padding()  # the last call's padding would be saved otherwise
        pipeline.to(torch.float16).save_pretrained(new)
        pipeline.to(torch.float32)
        remove_paths(new)
        for path in new.rglob("*.safetensors"):
            path.chmod(0o644)
        if folder.exists():
            if (folder / "README.md").exists():
                shutil.copy(folder / "README.md", new)
            os.replace(folder, old)
        os.replace(new, folder)
