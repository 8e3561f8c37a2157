"""Random mutations of one module, that no catalogue id covers: the right answer is the exact module, and no cause.

A module (leaf or block) of the network, a text encoder or the VAE gets another forward: what goes in or what comes out is
changed by one operation. Modules that no call reaches are left out, and so is a network's last layer, where many catalogue
ids (signs, orders of channels) would be right.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from whydiff.faults.fault import Host, Trial

HOSTS = ("flux", "flux_port", "sd15", "sdxl", "sd3", "wan", "qwen", "sd15_euler")
COMPONENTS = ("transformer", "transformer_2", "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")


def mutate(trial: Trial) -> tuple[str, str]:
    """Change the forward of one module of the faulty side. Returns (component/module, what was done to it)."""
    seen = reached(trial.faulty)
    component = trial.draw.choice([name for name in COMPONENTS if any(key.startswith(f"{name}/") for key in seen)])
    name = trial.draw.choice(sorted(key for key in seen if key.startswith(f"{component}/")))
    module = trial.faulty.pipeline.components[component].get_submodule(name.partition("/")[2])
    words = trial.draw.choice(sorted(MUTATIONS))
    change = MUTATIONS[words](trial.draw)
    at_input = words.startswith("input")
    original = module.forward

    @functools.wraps(original)
    def forward(*args, **kwargs):
        if at_input:
            return original(*_first_changed(args, change), **kwargs)
        return _output_changed(original(*args, **kwargs), change)

    module.forward = forward
    return name, words


def reached(host: Host) -> list[str]:
    """component/module of all modules that a call reaches with a float tensor coming out, but a network's last layer."""
    from whydiff.faults.hosts import image_of

    found: list[str] = []
    handles = []
    for component, root in host.pipeline.components.items():
        if component not in COMPONENTS or not isinstance(root, nn.Module):
            continue
        last = {"conv_out", "proj_out", "final_layer", "final_layer.linear", "decoder.conv_out"}
        for name, module in root.named_modules():
            if name and name not in last:
                handles.append(module.register_forward_hook(functools.partial(_note, found, f"{component}/{name}")))
    try:
        image_of(host)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(set(found))


def _note(found: list[str], name: str, _module, args, output) -> None:
    first = output[0] if isinstance(output, tuple) and output else output
    if isinstance(first, Tensor) and first.is_floating_point() and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        found.append(name)


def _first_changed(args: tuple, change) -> tuple:
    return (change(args[0]), *args[1:]) if args and isinstance(args[0], Tensor) else args


def _output_changed(output, change):
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output) if isinstance(output, Tensor) else output


# --- what may be done to a tensor: each maker draws its sizes and returns (tensor) -> tensor of the same shape -------------


def _channels(x: Tensor) -> int:
    """The axis of channels: the last of (B, L, C), the second of images and videos."""
    return 1 if x.ndim >= 4 else x.ndim - 1


def _slice_scaled(draw: random.Random) -> Callable[[Tensor], Tensor]:
    start, factor = draw.random(), draw.choice([0.5, 0.8, 1.25, 2.0])

    def change(x):
        axis = _channels(x)
        width = max(1, x.shape[axis] // 4)
        begin = int(start * (x.shape[axis] - width + 1))
        scale = torch.ones(x.shape[axis], dtype=x.dtype)
        scale[begin : begin + width] = factor
        return x * scale.view([-1 if i == axis else 1 for i in range(x.ndim)])

    return change


def _rolled(draw):
    last, by = draw.random() < 0.5, draw.choice([1, -1, 2])
    return lambda x: x.roll(by, -1 if last or x.ndim < 3 else -2)


def _channel_zeroed(draw):
    which = draw.random()

    def change(x):
        axis = _channels(x)
        keep = torch.ones(x.shape[axis], dtype=x.dtype)
        keep[int(which * x.shape[axis])] = 0
        return x * keep.view([-1 if i == axis else 1 for i in range(x.ndim)])

    return change


def _halves_swapped(draw):
    def change(x):
        axis = _channels(x)
        return x.roll(x.shape[axis] // 2, axis)

    return change


def _clamped(draw):
    share = draw.choice([0.5, 0.8])
    return lambda x: x.clamp(-share * x.abs().max().item(), share * x.abs().max().item())


def _biased(draw):
    size = draw.choice([0.02, 0.1, 0.5]) * draw.choice([1, -1])
    return lambda x: x + size * x.std().clamp_min(1e-3)


MUTATIONS: dict[str, Callable[[random.Random], Callable[[Tensor], Tensor]]] = {
    "a slice scaled": _slice_scaled,
    "rolled along an axis": _rolled,
    "one channel zeroed": _channel_zeroed,
    "halves of the channels swapped": _halves_swapped,
    "tanh inserted": lambda draw: torch.tanh,
    "squared, with its sign": lambda draw: lambda x: x * x.abs(),
    "clamped": _clamped,
    "a constant added": _biased,
    "flipped along the channels": lambda draw: lambda x: x.flip(_channels(x)),
    "mean over tokens subtracted": lambda draw: lambda x: x - 0.5 * x.mean(-2 if x.ndim > 2 else -1, keepdim=True),
    "absolute value": lambda draw: torch.abs,
    "rounded to bf16": lambda draw: lambda x: x.to(torch.bfloat16).to(x.dtype),
    "rounded to a grid": lambda draw: lambda x: (x * 16).round() / 16,
    "input: a slice scaled": _slice_scaled,
    "input: rolled along an axis": _rolled,
    "input: a constant added": _biased,
    "input: softsign inserted": lambda draw: nn.functional.softsign,
}
