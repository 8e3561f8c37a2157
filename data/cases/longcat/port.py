"""A native port: projections split, names of its own, and a switch for each fault; healthy unless a switch says otherwise.

After hao-ai-lab/FastVideo, fastvideo/models/dits/longcat.py and stages/longcat_denoising.py at fe7c96920 (before the note),
0f1146403 (the note's commit) and 2f3d40740. Written anew from the description of those places.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longcat.parts import Shape, in_float32, layer_norm, rotary_table, rotate


@dataclasses.dataclass(frozen=True)
class Options:
    """Each default is what the original does."""

    text_activation: str = "gelu_tanh"  # the note's commit: silu
    norm: str = "layer"  # before the note: rms
    swap_gate: bool = False  # before the note: w1 x · silu(w3 x)
    attend_heads: bool = False  # before the note: heads and tokens exchanged
    rope: str = "thw"  # "none", "twh"
    qk_norm: bool = True
    cross_norm_affine: bool = True
    swap_kv: bool = False
    timestep_scale: float = 1.0
    sin_first: bool = False
    swap_shift_scale: bool = False
    drop_last_block: bool = False
    load_weights: bool = True
    output_scale: float = 1.0  # -1 flips the sign
    transpose_patches: bool = False
    fp32_islands: bool = True  # the port's newest state: time embedding and final layer in the weights' dtype
    pass_mask: bool = True  # neither commit: the list that should hold the mask is None
    pass_sigmas: bool = True  # neither commit: without a list the scheduler shifts its minimum twice
    guidance: str = "zero"  # "plain" is ordinary guidance
    negate: bool = True
    by_position: bool = False  # the network called in the original's order of arguments


class HeadNorm(nn.Module):
    """Root mean square over a head, in float32."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.weight, None)


class Attention(nn.Module):
    def __init__(self, shape: Shape, options: Options, cross: bool):
        super().__init__()
        self.heads, self.options, self.cross = shape.heads, options, cross
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(shape.width, shape.width) for _ in range(4))
        head = shape.width // shape.heads
        self.norm_q, self.norm_k = HeadNorm(head), HeadNorm(head)

    def forward(self, x: Tensor, context: Tensor, table=None) -> Tensor:
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)) for f, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context)))
        if self.cross and self.options.swap_kv:
            k, v = v, k
        if self.options.qk_norm:
            q, k = self.norm_q(q), self.norm_k(k)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        if self.options.attend_heads and not self.cross:
            out = F.scaled_dot_product_attention(*(y.transpose(1, 2) for y in (q, k, v)))
        else:
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.to_out(out.flatten(2))


class GatedMLP(nn.Module):
    def __init__(self, shape: Shape, swap: bool):
        super().__init__()
        self.swap = swap
        self.gate, self.up = (nn.Linear(shape.width, 2 * shape.width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * shape.width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.gate(x), self.up(x)
        return self.down(a * F.silu(b) if self.swap else F.silu(a) * b)


class PortBlock(nn.Module):
    def __init__(self, shape: Shape, options: Options):
        super().__init__()
        self.options = options
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.width, 6 * shape.width))
        self.self_attn, self.cross_attn = Attention(shape, options, False), Attention(shape, options, True)
        self.norm_cross = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = GatedMLP(shape, options.swap_gate)

    def forward(self, x: Tensor, text: Tensor, t: Tensor, table) -> Tensor:
        parts = in_float32(self.modulation, t).unsqueeze(1).chunk(6, -1)
        if self.options.swap_shift_scale:
            parts = tuple(parts[i] for i in (1, 0, 2, 4, 3, 5))
        h = modulate(x, parts[0], parts[1], self.options.norm)
        x = (x.float() + parts[2] * self.self_attn(h, h, table).float()).to(x.dtype)
        affine = (self.norm_cross.weight, self.norm_cross.bias) if self.options.cross_norm_affine else (None, None)
        normed = layer_norm(x, *affine) if self.options.norm == "layer" else rms(x, *affine)
        x = x + self.cross_attn(normed, text)
        return (x.float() + parts[5] * self.mlp(modulate(x, parts[3], parts[4], self.options.norm)).float()).to(x.dtype)


def rms(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = F.rms_norm(x.float(), x.shape[-1:], None if weight is None else weight.float(), 1e-6)
    return (y if bias is None else y + bias.float()).to(x.dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, norm: str) -> Tensor:
    normed = layer_norm(x) if norm == "layer" else rms(x, None, None)
    return (normed.float() * (1 + scale) + shift).to(x.dtype)


class PortDiT(nn.Module):
    """The same arithmetic as `OriginalDiT`; its text comes before its timestep, as the framework orders arguments."""

    def __init__(self, shape: Shape, options: Options):
        super().__init__()
        self.shape, self.options = shape, options
        self.patch_embed = nn.Linear(4 * shape.channels, shape.width)
        self.time_embed = nn.Sequential(nn.Linear(shape.frequencies, shape.width), nn.SiLU(), nn.Linear(shape.width, shape.width))
        activation = nn.SiLU() if options.text_activation == "silu" else nn.GELU(approximate="tanh")
        self.text_embed = nn.Sequential(nn.Linear(shape.text, shape.width), activation, nn.Linear(shape.width, shape.width))
        self.blocks = nn.ModuleList(PortBlock(shape, options) for _ in range(shape.blocks - options.drop_last_block))
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.width, 2 * shape.width))
        self.proj_out = nn.Linear(shape.width, 4 * shape.channels)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor, encoder_attention_mask=None) -> Tensor:
        batch, channels, frames, height, width = hidden_states.shape
        rows, columns, dtype, options = height // 2, width // 2, self.patch_embed.weight.dtype, self.options
        patches = hidden_states.unfold(3, 2, 2).unfold(4, 2, 2).permute(0, 2, 3, 4, 1, 5, 6)
        x = self.patch_embed(patches.flatten(4).flatten(1, 3).to(dtype))
        t = self.time(timestep * options.timestep_scale)
        text = self.text_embed(encoder_hidden_states.to(dtype))
        if encoder_attention_mask is not None:
            text = text.masked_fill(~encoder_attention_mask.bool().unsqueeze(-1), 0.0)
        table = self.table(frames, rows, columns)
        for block in self.blocks:
            x = block(x, text, t, table)
        out = self.last(x, t).reshape(batch, frames, rows, columns, 2, 2, channels)
        if options.transpose_patches:
            out = out.transpose(4, 5)
        out = out.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width)
        return out.float() if options.output_scale == 1 else out.float() * options.output_scale

    def time(self, timestep: Tensor) -> Tensor:
        half = self.shape.frequencies // 2
        angle = timestep.float()[:, None] * torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
        waves = torch.cat([angle.sin(), angle.cos()] if self.options.sin_first else [angle.cos(), angle.sin()], -1)
        if self.options.fp32_islands:
            return in_float32(self.time_embed, waves)
        return self.time_embed(waves.to(self.patch_embed.weight.dtype))

    def last(self, x: Tensor, t: Tensor) -> Tensor:
        if self.options.fp32_islands:
            shift, scale = in_float32(self.final_modulation, t).unsqueeze(1).chunk(2, -1)
        else:
            shift, scale = self.final_modulation(t.to(x.dtype)).unsqueeze(1).chunk(2, -1)
        normed = layer_norm(x) if self.options.norm == "layer" else rms(x, None, None)
        if self.options.fp32_islands:
            return in_float32(self.proj_out, normed.float() * (1 + scale) + shift)
        return self.proj_out(normed * (1 + scale) + shift)

    def table(self, frames: int, rows: int, columns: int):
        head = self.shape.width // self.shape.heads
        if self.options.rope == "none":
            return None
        if self.options.rope == "twh":  # height's places where width's belong
            tables = rotary_table(frames, columns, rows, head)
            return tuple(y.reshape(frames, columns, rows, -1).transpose(1, 2).flatten(0, 2) for y in tables)
        return rotary_table(frames, rows, columns, head)


def guide(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """CFG-Zero* with a factor for each sample, right for any batch (longcat_denoising.py:42-47)."""
    over = tuple(range(1, cond.ndim))
    st_star = (cond * uncond).sum(over, keepdim=True) / (uncond.square().sum(over, keepdim=True) + 1e-8)
    return uncond * st_star + scale * (cond - uncond * st_star)


def guide_plain(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return uncond + scale * (cond - uncond)
