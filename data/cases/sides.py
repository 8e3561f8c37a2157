"""The sides that the cases compare. Each function returns a pipeline; a case's `build` is its arguments."""

import os
from pathlib import Path

from native_flux import NativeFluxPipeline

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
MODELS = Path(__file__).resolve().parents[1] / "models"


def reference(dtype="float32", channels_last=False, **build):
    """diffusers' FluxPipeline, as it is; `channels_last` gives its VAE another memory format, and so other kernels."""
    import torch
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(MODELS / "tiny-flux", dtype=getattr(torch, dtype), **build)
    pipeline.set_progress_bar_config(disable=True)
    if channels_last:
        pipeline.vae.to(memory_format=torch.channels_last)
    return pipeline


def port(**build):
    """The native port; healthy unless `build` says otherwise (see native_flux/options.py)."""
    return NativeFluxPipeline(MODELS / "tiny-flux", **build)


def wan(flow_shift=3.0):
    """diffusers' WanPipeline with two experts; `flow_shift` decides at which step the second takes over."""
    import torch
    from diffusers import UniPCMultistepScheduler, WanPipeline

    pipeline = WanPipeline.from_pretrained(MODELS / "tiny-wan", dtype=torch.float32)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=flow_shift)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def longcat(**build):
    """The original's build of a small LongCat-Video (longcat/)."""
    from longcat.pipeline import reference

    return reference(**build)


def longcat_port(**build):
    """Its native port; healthy unless `build` says otherwise (longcat/port.py, Options)."""
    from longcat.pipeline import candidate

    return candidate(**build)


def qwen_workflow(**build):
    """A small Qwen-Image-Edit driven as its ComfyUI graph (qwen_edit/)."""
    from qwen_edit.pipeline import workflow

    return workflow(**build)


def qwen_microservice(**build):
    """The same nodes called one by one; `build` are the departures (qwen_edit/pipeline.py, Service)."""
    from qwen_edit.pipeline import microservice

    return microservice(**build)
