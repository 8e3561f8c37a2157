"""What both builds of the DiT share on purpose: shapes, positions and the float32 islands. Written from the facts, not copied.

Nothing that a fault can touch is shared as code: attention, norms, MLPs, packing and sampling are written twice.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


@dataclasses.dataclass(frozen=True)
class Shape:
    """The real one: width 4096, 48 blocks, 32 heads, 4096 text features, patches of 1 x 2 x 2."""

    channels: int = 16
    width: int = 64
    heads: int = 2
    blocks: int = 4
    text: int = 48
    frequencies: int = 64


def in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """What autocast to float32 does on CUDA: weights and input are cast for this call alone. On the CPU autocast would do nothing."""
    if all(p.dtype == torch.float32 for p in module.parameters()):
        return module(x.float())
    return functional_call(module, {name: p.float() for name, p in module.named_parameters()}, x.float())


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Over the last axis in float32, eps 1e-6, back to x's dtype."""
    w, b = (None if t is None else t.float() for t in (weight, bias))
    return F.layer_norm(x.float(), x.shape[-1:], w, b, 1e-6).to(x.dtype)


def rotary_table(frames: int, height: int, width: int, head: int) -> tuple[Tensor, Tensor]:
    """cos and sin, (T·H·W, head/2): pairs of the head divided between time, height and width as 44 : 42 : 42 of 128, base 10000."""
    side = 2 * (head // 6)
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (frames, height, width)), indexing="ij")
    angles = []
    for place, size in zip(grid, (head - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles.append(place.reshape(-1, 1) * rates)
    angle = torch.cat(angles, 1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Adjacent pairs of the last axis turned; x: (B, heads, L, head)."""
    cos, sin = table
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Seeded weights under which every part matters: matrices keep the variance, biases have 0.2, gains lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(draw * parameter[0].numel() ** -0.5)
        else:
            parameter.copy_(1 + 0.3 * draw if "norm" in name and name.endswith("weight") else 0.2 * draw)
    return module
