"""Healthy pipelines that faults are planted into. `pair(kind)` gives two of a kind, fresh and independent."""

from __future__ import annotations

import copy
import functools
import inspect
import random
from collections.abc import Callable

import numpy as np
import torch

from whydiff.faults.fault import Host
from whydiff.faults.hosts import dialogue, flow, stable_diffusion

HOSTS: dict[str, Callable[[], Host]] = {
    maker.__name__: maker
    for maker in (
        flow.flux, flow.flux_port, flow.wan, flow.wan_i2v, flow.sd3, flow.ltx, dialogue.qwen,
        stable_diffusion.sd15, stable_diffusion.sd15_pndm, stable_diffusion.sd15_euler, stable_diffusion.sd15_karras,
        stable_diffusion.sd15_vpred, stable_diffusion.sd15_dpm, stable_diffusion.sd15_sde, stable_diffusion.sd15_unipc,
        stable_diffusion.sd15_ancestral, stable_diffusion.sd15_heun, stable_diffusion.sd15_lcm, stable_diffusion.sd15_img2img,
        stable_diffusion.sd15_img2img_dpm, stable_diffusion.sd15_inpaint, stable_diffusion.sd15_controlnet, stable_diffusion.sdxl,
    )
}  # fmt: skip

# What a host is compared with, where that is not a second one of its kind.
PARTNERS = {"flux_port": "flux"}


@functools.cache
def _prototype(kind: str) -> Host:
    return HOSTS[kind]()


def host(kind: str) -> Host:
    """A healthy pipeline that shares nothing with any other: built once per process, then copied."""
    made = _prototype(kind)
    return Host(kind, copy.deepcopy(made.pipeline), copy.deepcopy(made.call))


def pair(kind: str) -> tuple[Host, Host]:
    """(the one to break, the one that stays healthy)."""
    return host(kind), host(PARTNERS.get(kind, kind))


def image_of(host: Host) -> torch.Tensor:
    """What one call of the host gives, float64, run as anybody would: no engine, no probes."""
    arguments = dict(host.call)
    takes = inspect.signature(host.pipeline).parameters
    if "seed" in arguments and "seed" not in takes:
        arguments["generator"] = torch.Generator(arguments.pop("generator_device", "cpu")).manual_seed(arguments.pop("seed"))
    if "generator_device" not in takes:
        arguments.pop("generator_device", None)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with torch.no_grad():
        output = host.pipeline(**arguments)
    output = output[0] if isinstance(output, tuple) else output
    pictures = getattr(output, "images", getattr(output, "frames", output))
    if isinstance(pictures, torch.Tensor):
        return pictures.detach().cpu().double()
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]).astype("float64"))
