"""Hosts of the SD1.5 and SDXL families: U-Nets that predict epsilon or v, one per kind of sampler and conditioning."""

from __future__ import annotations

import torch

from whydiff.faults.fault import Host
from whydiff.faults.hosts.parts import PROMPT, clip, clip_tokenizer, vae
from whydiff.faults.hosts.weights import lively, output_of_std

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_CALL = {"prompt": PROMPT, "negative_prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 5,
         "guidance_scale": 5.0, "seed": 0}  # fmt: skip


def _unet(seed: int, **config):
    from diffusers import UNet2DConditionModel

    arguments = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64),
                 "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 8, "attention_head_dim": 8,
                 "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 32}  # fmt: skip
    return lively(UNet2DConditionModel(**arguments | config), seed)


def settled(pipeline, call: dict, picture_std: float = 0.3) -> None:
    """Scale the last layers so that predictions have std 1 and pictures the given one."""
    arguments = {k: v for k, v in call.items() if k != "seed"}

    def run():
        pipeline(**arguments, generator=torch.Generator().manual_seed(0), output_type="pt")

    pipeline.set_progress_bar_config(disable=True)
    output_of_std(pipeline.unet, pipeline.unet.conv_out, 1.0, run)
    output_of_std(pipeline.vae.decoder, pipeline.vae.decoder.conv_out, picture_std, run)


def _sd(kind: str, scheduler, seed: int = 100, pipeline: str = "StableDiffusionPipeline", call=None, unet=None, **more) -> Host:
    import diffusers

    made = getattr(diffusers, pipeline)(
        vae=vae(seed + 1, scaling_factor=0.18215), text_encoder=clip(seed + 2), tokenizer=clip_tokenizer(),
        unet=_unet(seed + 3, **(unet or {})), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **more)  # fmt: skip
    call = {key: value for key, value in (_CALL | (call or {})).items() if value is not None}
    settled(made, call)
    return Host(kind, made, call)


def sd15() -> Host:
    from diffusers import DDIMScheduler

    return _sd("sd15", DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1))


def sd15_pndm() -> Host:
    from diffusers import PNDMScheduler

    return _sd("sd15_pndm", PNDMScheduler(**_BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1))


def sd15_euler() -> Host:
    from diffusers import EulerDiscreteScheduler

    return _sd("sd15_euler", EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="linspace"))


def sd15_karras() -> Host:
    from diffusers import EulerDiscreteScheduler

    return _sd("sd15_karras", EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="linspace", use_karras_sigmas=True))


def sd15_vpred() -> Host:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
                              rescale_betas_zero_snr=True, timestep_spacing="trailing")  # fmt: skip
    return _sd("sd15_vpred", scheduler, call={"guidance_rescale": 0.7})


def sd15_dpm() -> Host:
    from diffusers import DPMSolverMultistepScheduler

    return _sd("sd15_dpm", DPMSolverMultistepScheduler(**_BETAS, steps_offset=1), call={"num_inference_steps": 6})


def sd15_sde() -> Host:
    from diffusers import DPMSolverMultistepScheduler

    return _sd("sd15_sde", DPMSolverMultistepScheduler(**_BETAS, steps_offset=1, algorithm_type="sde-dpmsolver++"))


def sd15_unipc() -> Host:
    from diffusers import UniPCMultistepScheduler

    return _sd("sd15_unipc", UniPCMultistepScheduler(**_BETAS, steps_offset=1), call={"num_inference_steps": 6})


def sd15_ancestral() -> Host:
    from diffusers import EulerAncestralDiscreteScheduler

    return _sd("sd15_ancestral", EulerAncestralDiscreteScheduler(**_BETAS, steps_offset=1))


def sd15_heun() -> Host:
    from diffusers import HeunDiscreteScheduler

    return _sd("sd15_heun", HeunDiscreteScheduler(**_BETAS, steps_offset=1), call={"num_inference_steps": 4})


def sd15_lcm() -> Host:
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**_BETAS, steps_offset=1, original_inference_steps=50, set_alpha_to_one=True)
    return _sd("sd15_lcm", scheduler, call={"num_inference_steps": 4, "guidance_scale": 2.0})


def picture(height: int = 48, width: int = 64):
    """A picture with edges, slopes and three different channels: (H, W, 3) uint8, as PIL."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    rgb = np.stack([x, 1 - y, 0.5 + 0.4 * np.sin(9 * x + 5 * y)], -1)
    rgb[height // 4 : height // 2, width // 3 : width // 2] = (0.9, 0.1, 0.2)
    return Image.fromarray((rgb * 255).round().astype("uint8"))


def sd15_img2img() -> Host:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return _img2img("sd15_img2img", scheduler)


def sd15_img2img_dpm() -> Host:
    from diffusers import DPMSolverMultistepScheduler

    return _img2img("sd15_img2img_dpm", DPMSolverMultistepScheduler(**_BETAS, steps_offset=1))


def _img2img(kind: str, scheduler) -> Host:
    call = {"image": picture(), "strength": 0.6, "num_inference_steps": 8, "height": None, "width": None}
    return _sd(kind, scheduler, pipeline="StableDiffusionImg2ImgPipeline", call=call)


def sd15_inpaint() -> Host:
    from diffusers import DDIMScheduler
    from PIL import Image, ImageDraw

    mask = Image.new("L", (64, 48), 0)
    ImageDraw.Draw(mask).rectangle((16, 8, 40, 32), fill=255)
    scheduler = DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return _sd("sd15_inpaint", scheduler, pipeline="StableDiffusionInpaintPipeline", unet={"in_channels": 9},
               call={"image": picture(), "mask_image": mask, "strength": 1.0})  # fmt: skip


def sd15_controlnet() -> Host:
    from diffusers import ControlNetModel, DDIMScheduler

    control = ControlNetModel(in_channels=4, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
                              down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=32,
                              attention_head_dim=8, conditioning_embedding_out_channels=(16, 32, 32))  # fmt: skip
    scheduler = DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return _sd("sd15_controlnet", scheduler, pipeline="StableDiffusionControlNetPipeline", call={"image": picture()},
               controlnet=lively(control, 140))  # fmt: skip


def sdxl() -> Host:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    unet = _unet(203, block_out_channels=(32, 64), cross_attention_dim=80, addition_embed_type="text_time",
                 addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 40, use_linear_projection=True,
                 attention_head_dim=(4, 8), transformer_layers_per_block=(1, 2),
                 down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                 up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=vae(201, scaling_factor=0.13025, force_upcast=False), text_encoder=clip(202, 32),
        text_encoder_2=clip(204, 48, layers=4, projection=40, act="gelu"), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad="!"), unet=unet, force_zeros_for_empty_prompt=True, add_watermarker=False,
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="leading"))  # fmt: skip
    settled(pipeline, _CALL)
    return Host("sdxl", pipeline, dict(_CALL))
