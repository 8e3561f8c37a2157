"""Hosts whose networks predict a velocity: Flux and its native port, SD3, Wan with and without a picture, Qwen-Image, LTX."""

from __future__ import annotations

import torch

from whydiff.faults.fault import Host
from whydiff.faults.hosts.parts import PROMPT, clip, clip_tokenizer, models, t5, t5_tokenizer, vae
from whydiff.faults.hosts.weights import lively, output_of_std

_FLUX_CALL = {"prompt": PROMPT, "height": 48, "width": 64, "num_inference_steps": 6, "guidance_scale": 3.5,
              "max_sequence_length": 16, "seed": 0}  # fmt: skip


def run_once(pipeline, call: dict):
    arguments = {k: v for k, v in call.items() if k != "seed"}
    return lambda: pipeline(**arguments, generator=torch.Generator().manual_seed(0), output_type="pt")


def flux() -> Host:
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(models() / "tiny-flux", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return Host("flux", pipeline, dict(_FLUX_CALL))


def flux_port() -> Host:
    """The native port of data/cases; what it is compared with is diffusers' FluxPipeline."""
    from whydiff.faults.hosts.native import native_flux

    return Host("flux_port", native_flux(), dict(_FLUX_CALL))


def wan() -> Host:
    """Two experts with random weights; the second takes over below timestep 875. The VAE is made louder, its pictures were grey."""
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(models() / "tiny-wan", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    call = {"prompt": "a red circle", "negative_prompt": "two blue squares", "height": 16, "width": 32, "num_frames": 5,
            "num_inference_steps": 6, "guidance_scale": 4.0, "max_sequence_length": 16, "seed": 0}  # fmt: skip
    for number, part in enumerate((pipeline.transformer, pipeline.transformer_2, pipeline.text_encoder, pipeline.vae)):
        lively(part, 300 + number)
    for network in (pipeline.transformer, pipeline.transformer_2):
        output_of_std(network, network.proj_out, 1.0, run_once(pipeline, call))
    _loud(pipeline, call)
    return Host("wan", pipeline, call)


def _loud(pipeline, call: dict) -> None:
    """Wan's decoder ends in a convolution and a clamp: a std of 0.4 stays inside it."""
    output_of_std(pipeline.vae.decoder, pipeline.vae.decoder.conv_out, 0.4, run_once(pipeline, call))


def wan_i2v() -> Host:
    """Wan2.1's image-to-video: first frame and mask as channels, CLIP's view of the picture as tokens."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    from whydiff.faults.hosts.stable_diffusion import picture

    _without_ftfy()
    base = WanImageToVideoPipeline.from_pretrained(
        models() / "tiny-wan", dtype=torch.float32, transformer=None, transformer_2=None, boundary_ratio=None,
        image_encoder=None, image_processor=None)  # fmt: skip
    network = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=36,
                                    out_channels=16, text_dim=32, freq_dim=64, ffn_dim=48, num_layers=2, rope_max_seq_len=32,
                                    image_dim=32, added_kv_proj_dim=24)  # fmt: skip
    eyes = CLIPVisionModel(CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                                            image_size=32, patch_size=8))  # fmt: skip
    pipeline = WanImageToVideoPipeline(
        tokenizer=base.tokenizer, text_encoder=lively(base.text_encoder, 402), vae=lively(base.vae, 403),
        scheduler=UniPCMultistepScheduler.from_config(base.scheduler.config), transformer=lively(network, 400),
        image_encoder=lively(eyes, 401),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}))  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    call = {"image": picture(16, 32), "prompt": "a red circle", "negative_prompt": "two blue squares", "height": 16, "width": 32,
            "num_frames": 5, "num_inference_steps": 4, "guidance_scale": 4.0, "max_sequence_length": 16, "seed": 0}  # fmt: skip
    output_of_std(network, network.proj_out, 1.0, run_once(pipeline, call))
    _loud(pipeline, call)
    return Host("wan_i2v", pipeline, call)


def _without_ftfy() -> None:
    """Wan's image-to-video calls `ftfy` without asking whether it is installed; on clean prompts it changes nothing."""
    from types import SimpleNamespace

    from diffusers.pipelines.wan import pipeline_wan_i2v

    if not hasattr(pipeline_wan_i2v, "ftfy"):
        pipeline_wan_i2v.ftfy = SimpleNamespace(fix_text=lambda text: text)


def sd3() -> Host:
    """SD3.5: two CLIPs and T5, a table of positions, q/k norms."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    network = SD3Transformer2DModel(sample_size=16, patch_size=2, in_channels=8, out_channels=8, num_layers=3, attention_head_dim=16,
                                    num_attention_heads=3, caption_projection_dim=48, joint_attention_dim=80,
                                    pooled_projection_dim=72, pos_embed_max_size=16, qk_norm="rms_norm")  # fmt: skip
    pipeline = StableDiffusion3Pipeline(
        transformer=lively(network, 500), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(501, channels=8, quant=False, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=clip(502, 32, projection=32), tokenizer=clip_tokenizer(),
        text_encoder_2=clip(503, 40, layers=4, projection=40, act="gelu"), tokenizer_2=clip_tokenizer(pad="!"),
        text_encoder_3=t5(504, 80), tokenizer_3=t5_tokenizer())  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    call = {"prompt": PROMPT, "negative_prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 5,
            "guidance_scale": 4.0, "max_sequence_length": 16, "seed": 0}  # fmt: skip
    output_of_std(network, network.proj_out, 1.0, run_once(pipeline, call))
    output_of_std(pipeline.vae.decoder, pipeline.vae.decoder.conv_out, 0.3, run_once(pipeline, call))
    return Host("sd3", pipeline, call)


def ltx() -> Host:
    """LTX-Video with a decoder that is told a timestep and takes noise (0.9.1)."""
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel

    network = LTXVideoTransformer3DModel(in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=24,
                                         cross_attention_dim=48, num_layers=2, caption_channels=48)  # fmt: skip
    decoder = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5, timestep_conditioning=True, patch_size=1)  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
                                                max_image_seq_len=4096, shift_terminal=0.1)  # fmt: skip
    pipeline = LTXPipeline(scheduler=scheduler, vae=lively(decoder, 700), text_encoder=t5(701, 48), tokenizer=t5_tokenizer(),
                           transformer=lively(network, 702))  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    call = {"prompt": PROMPT, "negative_prompt": "a red circle", "height": 32, "width": 64, "num_frames": 9, "frame_rate": 25,
            "num_inference_steps": 4, "guidance_scale": 3.0, "decode_timestep": 0.05, "decode_noise_scale": 0.025,
            "max_sequence_length": 16, "seed": 0}  # fmt: skip
    output_of_std(network, network.proj_out, 1.0, run_once(pipeline, call))
    output_of_std(pipeline.vae.decoder, pipeline.vae.decoder.conv_out.conv, 0.4, run_once(pipeline, call))
    return Host("ltx", pipeline, call)
