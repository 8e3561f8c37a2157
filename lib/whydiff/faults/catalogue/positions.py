"""Faults of positions: rotary tables, position tables, sinusoids of the timestep."""

from __future__ import annotations

import torch

from whydiff.faults.fault import fault
from whydiff.faults.surgery import networks, submodules, wrap


def rotary_module(network):
    """(module, "flux" | "wan" | "complex" | "other") that makes a network's rotary table."""
    module = getattr(network, "pos_embed", None) or getattr(network, "rope", None)
    if hasattr(module, "pos_freqs"):
        return module, "complex"
    return module, "wan" if hasattr(module, "freqs_cos") else "flux" if hasattr(module, "axes_dim") else "other"


def _angles(positions: torch.Tensor, dim: int, theta: float, low: str | None = None) -> torch.Tensor:
    """(L,) -> (L, dim / 2), in float64 but for what is said to be low."""
    frequencies = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if low is not None:
        frequencies = frequencies.bfloat16()
    if low == "phases":
        return (positions.bfloat16()[:, None] * frequencies).double()
    return positions.double()[:, None] * frequencies.double()


def _pairs(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles to the (cos, sin) that neighbouring pairs share."""
    return angles.cos().repeat_interleave(2, 1).float(), angles.sin().repeat_interleave(2, 1).float()


@fault("rope-phase-low-precision", "flux", "qwen")
def _(trial):
    low = trial.draw.choice(["frequencies", "phases"])
    for network in networks(trial.faulty):
        module, layout = rotary_module(network)
        if layout == "flux":
            def tables(_forward, ids, _module=module):
                parts = [_pairs(_angles(ids[:, i], dim, _module.theta, low)) for i, dim in enumerate(_module.axes_dim)]
                return tuple(torch.cat(table, -1) for table in zip(*parts, strict=True))

            wrap(module, "forward", tables)
        else:
            places = torch.arange(len(module.pos_freqs))
            for name, index in (("pos_freqs", places), ("neg_freqs", places.flip(0) * -1 - 1)):
                angles = torch.cat([_angles(index, dim, module.theta, low) for dim in module.axes_dim], -1).float()
                setattr(module, name, torch.polar(torch.ones_like(angles), angles))


@fault("rope-axis-split", "flux", "wan")
def _(trial):
    reordered = trial.draw.random() < 0.5
    for network in networks(trial.faulty):
        module, layout = rotary_module(network)
        if layout == "flux":
            if reordered:  # columns before rows
                wrap(module, "forward", lambda forward, ids: forward(ids[:, [0, 2, 1]]))
            else:
                module.axes_dim = trial.draw.choice([[4, 10, 10], [12, 6, 6], [8, 12, 4], [10, 8, 6]])
            continue
        dims = [module.t_dim, module.h_dim, module.w_dim]
        if reordered:  # height, width, time
            def moved(forward, x, t=dims[0], h=dims[1]):
                cos, sin = forward(x)
                return tuple(torch.cat([table[..., t:t + h], table[..., t + h:], table[..., :t]], -1) for table in (cos, sin))

            wrap(module, "forward", moved)
        else:
            module.t_dim, module.h_dim, module.w_dim = dims = trial.draw.choice([[8, 2, 2], [2, 4, 6], [6, 4, 2]])
            places = torch.arange(module.max_seq_len)
            parts = [_pairs(_angles(places, dim, 10000.0)) for dim in dims]
            module.freqs_cos, module.freqs_sin = (torch.cat(table, -1) for table in zip(*parts, strict=True))


@fault("rope-complex-buffer-cast", "flux", "wan", "qwen")
def _(trial):
    """exp(i phi) cast to a real dtype: the cosines stay, the sines are gone."""
    for network in networks(trial.faulty):
        module, layout = rotary_module(network)
        if layout == "complex":
            for name in ("pos_freqs", "neg_freqs"):
                setattr(module, name, torch.complex(getattr(module, name).real, torch.zeros_like(getattr(module, name).real)))
        elif layout == "wan":
            module.freqs_sin = torch.zeros_like(module.freqs_sin)
        else:
            wrap(module, "forward", lambda forward, *args: (forward(*args)[0], torch.zeros_like(forward(*args)[1])))


@fault("position-embedding-init", "sd3")
def _(trial):
    """Another version builds the table with rows and columns swapped, in half precision, or for another base size."""
    patches = networks(trial.faulty)[0].pos_embed
    size, how = patches.pos_embed_max_size, trial.draw.choice(["order", "dtype", "halves"])
    table = patches.pos_embed
    if how == "order":
        table = table.unflatten(1, (size, size)).transpose(1, 2).flatten(1, 2)
    elif how == "dtype":
        table = table.bfloat16().float()
    else:  # the half of the width before that of the height
        table = torch.cat(table.chunk(2, -1)[::-1], -1)
    patches.pos_embed = table.contiguous()


@fault("downscale-freq-shift", "flux", "sd15", "sd3", "wan", "qwen")
def _(trial):
    for network in networks(trial.faulty):
        for module in submodules(network, "Timesteps").values():
            module.downscale_freq_shift = 1 - module.downscale_freq_shift
