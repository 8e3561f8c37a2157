"""Benign: another precision that the side declares; what it costs is measured, and no bug."""

from __future__ import annotations

import functools

import torch
from torch import nn

from whydiff.faults.benign import benign
from whydiff.faults.fault import Trial

BF16 = {"dtype": "bfloat16"}


@benign("bf16-declared-flux", "flux", declares=BF16)
@benign("bf16-declared-sd15", "sd15", declares=BF16)
@benign("bf16-declared-wan", "wan", declares=BF16)
@benign("bf16-declared-sd3", "sd3", declares=BF16)
def bf16(trial: Trial) -> None:
    trial.faulty.pipeline.to(torch.bfloat16)


@benign("bf16-declared-network-only", "sdxl", declares={"dtype": {"unet": "bfloat16"}})
def bf16_network(trial: Trial) -> None:
    _computes_in(trial.faulty.pipeline.unet, torch.bfloat16)


@benign("fp64-declared-network-only", "flux", declares={"dtype": {"transformer": "float64"}})
def fp64_network(trial: Trial) -> None:
    """Not the whole pipeline: its noise would be drawn in float64, and that is another draw."""
    _computes_in(trial.faulty.pipeline.transformer, torch.float64)


def _computes_in(network: nn.Module, dtype: torch.dtype) -> None:
    """The network alone in another dtype: what goes in is cast, what comes out cast back."""
    network.to(dtype)
    original = network.forward

    def cast(value):
        if isinstance(value, dict):
            return {key: cast(inner) for key, inner in value.items()}
        return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    @functools.wraps(original)
    def forward(*args, **kwargs):
        output = original(*map(cast, args), **{key: cast(value) for key, value in kwargs.items()})
        return (output[0].float(), *output[1:]) if isinstance(output, tuple) else output

    network.forward = forward


@benign("fp16-declared-flux", "flux", declares={"dtype": "float16"})
def fp16(trial: Trial) -> None:
    trial.faulty.pipeline.to(torch.float16)
