"""Random weights under which everything a pipeline computes shows in its picture: no branch starts at zero, nothing saturates."""

from __future__ import annotations

import math

import torch
from torch import nn


def lively(module: nn.Module, seed: int, gain: float = 1.0) -> nn.Module:
    """Draw every parameter anew from `seed`: matrices normal with std gain / sqrt(fan_in), norms around 1, biases small.

    Libraries start gates, output layers and biases at zero; a fault behind them would change nothing.
    """
    draw = torch.Generator().manual_seed(seed)
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if id(parameter) in embeddings:
                parameter.copy_(noise * 0.7)
            elif parameter.ndim >= 2 and not name.endswith(("scale_shift_table", "gamma")):
                parameter.copy_(noise * gain / math.sqrt(parameter[0].numel()))
            elif name.endswith(("weight", "gamma")):
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(0.2 * noise)
    return module.eval().requires_grad_(False)


def scaled_output(layer: nn.Module, factor: float) -> None:
    """Multiply what a last linear layer or convolution gives by `factor`."""
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.mul_(factor)


def output_of_std(module: nn.Module, layer: nn.Module, std: float, run) -> None:
    """Scale `layer`, the last of `module`, so that what `module` gives during `run()` has this std, and centre its bias.

    `module` may be called many times; the mean of its stds counts.
    """
    stds, means = [], []

    def seen(_module, _args, output):
        value = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        stds.append(value.std().item())
        means.append(value.mean().item())

    handle = module.register_forward_hook(seen)
    try:
        run()
    finally:
        handle.remove()
    scaled_output(layer, std / (sum(stds) / len(stds)))
