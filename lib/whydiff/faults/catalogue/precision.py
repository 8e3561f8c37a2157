"""Faults of number formats inside the network: where something is rounded, or overflows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from whydiff.faults.fault import fault
from whydiff.faults.surgery import (
    attend_through,
    attentions,
    block_linears,
    compute_in,
    matching,
    networks,
    submodules,
    wrap,
)

_TIME = ("timestep_embedder", "guidance_embedder", "time_embedder", "time_embedding", "time_in", "guidance_in")


def _time_embeddings(network: nn.Module) -> list[nn.Module]:
    return [m for n, m in submodules(network, nn.Module).items() if n.rsplit(".", 1)[-1] in _TIME]


def _modulations(network: nn.Module) -> list[nn.Module]:
    """The linear layers that give shift, scale and gate."""
    return [
        m for n, m in submodules(network, nn.Linear).items()
        if n.endswith((".linear", "time_proj", "modulation.lin", "_mod.lin", "img_mod.1", "txt_mod.1", "time_emb_proj"))
    ]  # fmt: skip


@fault("autocast-fp32-device-dependent", "flux", "flux_port", "wan", "sd3", "qwen")
def _(trial):
    """`with autocast(dtype=float32)` around time embedding and projection: on a CPU that block stays in half weights."""
    for network in networks(trial.faulty):
        inside = _time_embeddings(network) + [m for n, m in submodules(network, nn.Linear).items() if n.endswith("time_proj")]
        for module in inside:
            compute_in(module, torch.bfloat16)


@fault("modulation-low-precision", "flux", "flux_port", "wan", "sd3", "qwen")
def _(trial):
    with_time = trial.draw.random() < 0.5
    for network in networks(trial.faulty):
        for module in _modulations(network) + (_time_embeddings(network) if with_time else []):
            compute_in(module, torch.bfloat16)


@fault("fused-norm-rounding-point", "flux", "flux_port", "wan", "sd3", "qwen")
def _(trial):
    """A fused kernel keeps the normalised values in bf16 before it modulates them."""
    for network in networks(trial.faulty):
        for name, module in submodules(network, nn.LayerNorm).items():
            if not module.elementwise_affine and "block" in name:
                wrap(module, "forward", lambda forward, x: forward(x).bfloat16().to(x.dtype))


@fault("engine-fp16-nonfinite", "flux", "sd3", "sd15", "wan")
def _(trial):
    """An engine takes exp of fp16 scores without subtracting their maximum. Both sides have scores as large as trained models."""
    place = trial.draw.choice(list(attentions(trial.faulty).values()))
    for module in (place, matching(trial, place)):
        norm = getattr(module, "norm_q", None)
        with torch.no_grad():
            (norm if norm is not None else module.to_q).weight.mul_(16)

    def engine(_sdpa, query, key, value, mask=None, **_options):
        scores = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).half()
        weights = (scores if mask is None else scores + mask.half()).exp()
        return (weights / weights.sum(-1, keepdim=True)).to(value.dtype) @ value

    attend_through(place, engine)


@fault("dit-fp16-overflow", "flux", "sd3", "wan", "qwen")
def _(trial):
    """A feed-forward whose inner values pass 65504, computed in fp16. Both sides have it; only one computes it in fp16."""
    network = networks(trial.faulty)[0]
    chosen = trial.draw.choice(list(submodules(network, "FeedForward").values()))
    size = trial.draw.uniform(1e5, 1e6)
    for module in (chosen, matching(trial, chosen)):
        with torch.no_grad():
            module.net[0].proj.weight.mul_(size)
            module.net[2].weight.div_(size)
    compute_in(chosen, torch.float16)


def _to_fp8(x: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """The nearest e4m3 values of x / scale, times scale; saturating, as kernels do."""
    largest = torch.finfo(torch.float8_e4m3fn).max
    return (x / scale).clamp(-largest, largest).to(torch.float8_e4m3fn).to(x.dtype) * scale


@fault("fp8-input-scale-default", "flux", "sd15", "sd3", "wan")
def _(trial):
    """Both sides have fp8 weights; one also sends the activations through the fp8 matmul, with scale 1 as nothing else is stored."""
    chosen = trial.draw.sample(block_linears(trial.faulty), 3)
    for layer in chosen:
        for side in (layer, matching(trial, layer)):
            with torch.no_grad():
                side.weight.copy_(_to_fp8(side.weight, side.weight.abs().max() / 448))
        wrap(layer, "forward", lambda _forward, x, _layer=layer: F.linear(_to_fp8(x, 1.0), _layer.weight, _layer.bias))


