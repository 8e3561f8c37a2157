"""The original's build: fused projections, text mask applied, float32 islands, CFG-Zero* with the view it has.

After meituan-longcat/LongCat-Video@6b3f4b8: modules/longcat_video_dit.py, blocks.py, attention.py, rope_3d.py,
pipeline_longcat_video.py:323, 368-377, 566-590. Written anew from the description of those places.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longcat.parts import Shape, in_float32, layer_norm, rotary_table, rotate

SHIFT = 12.0


class RMSNorm(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return (F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), 1e-6)).to(x.dtype)


class AffineNorm(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias)


class SelfAttention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.heads, head = shape.heads, shape.width // shape.heads
        self.qkv, self.proj = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)
        self.q_norm, self.k_norm = RMSNorm(head), RMSNorm(head)

    def forward(self, x: Tensor, table) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.heads, head = shape.heads, shape.width // shape.heads
        self.q_linear, self.kv_linear = nn.Linear(shape.width, shape.width), nn.Linear(shape.width, 2 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)
        self.q_norm, self.k_norm = RMSNorm(head), RMSNorm(head)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        q = self.q_linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v).transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        inner = 2 * shape.width
        self.w1, self.w3 = (nn.Linear(shape.width, inner, bias=False) for _ in range(2))
        self.w2 = nn.Linear(inner, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return (layer_norm(x).float() * (1 + scale) + shift).to(x.dtype)


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.width, 6 * shape.width))
        self.attn, self.cross_attn, self.ffn = SelfAttention(shape), CrossAttention(shape), SwiGLU(shape)
        self.pre_crs_attn_norm = AffineNorm(shape.width)

    def forward(self, x: Tensor, text: Tensor, t: Tensor, table) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = in_float32(self.adaLN_modulation, t).unsqueeze(1).chunk(6, -1)
        x = (x.float() + gate_a * self.attn(modulate(x, shift_a, scale_a), table).float()).to(x.dtype)
        x = x + self.cross_attn(self.pre_crs_attn_norm(x), text)
        return (x.float() + gate_m * self.ffn(modulate(x, shift_m, scale_m)).float()).to(x.dtype)


class FinalLayer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.width, 2 * shape.width))
        self.linear = nn.Linear(shape.width, 4 * shape.channels)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = in_float32(self.adaLN_modulation, t).unsqueeze(1).chunk(2, -1)
        return in_float32(self.linear, layer_norm(x).float() * (1 + scale) + shift)


class OriginalDiT(nn.Module):
    """(B, C, T, H, W) latents, (B,) timesteps in 0 to 1000, (B, L, D) text, (B, L) mask -> (B, C, T, H, W), image - noise."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.x_embedder = nn.Linear(4 * shape.channels, shape.width)
        self.t_embedder = nn.Sequential(nn.Linear(shape.frequencies, shape.width), nn.SiLU(), nn.Linear(shape.width, shape.width))
        self.y_embedder = nn.Sequential(nn.Linear(shape.text, shape.width), nn.GELU("tanh"), nn.Linear(shape.width, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.final_layer = FinalLayer(shape)

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask=None) -> Tensor:
        batch, channels, frames, height, width = hidden_states.shape
        rows, columns = height // 2, width // 2
        patches = hidden_states.reshape(batch, channels, frames, rows, 2, columns, 2).permute(0, 2, 3, 5, 1, 4, 6)
        dtype = self.x_embedder.weight.dtype
        x = self.x_embedder(patches.flatten(4).flatten(1, 3).to(dtype))
        t = in_float32(self.t_embedder, frequencies(timestep, self.shape.frequencies))
        text = self.y_embedder(encoder_hidden_states.to(dtype))
        if encoder_attention_mask is not None:  # zero-pad: padded tokens become zero and are attended to
            text = text * encoder_attention_mask.unsqueeze(-1).to(text.dtype)
        table = rotary_table(frames, rows, columns, self.shape.width // self.shape.heads)
        for block in self.blocks:
            x = block(x, text, t, table)
        out = self.final_layer(x, t).reshape(batch, frames, rows, columns, 2, 2, channels)
        return out.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width).float()


def frequencies(timestep: Tensor, size: int) -> Tensor:
    """cos first, then sin; (B,) in 0 to 1000 -> (B, size)."""
    rates = torch.exp(-np.log(10000.0) * torch.arange(size // 2, dtype=torch.float32) / (size // 2))
    angle = timestep.float()[:, None] * rates
    return torch.cat([angle.cos(), angle.sin()], -1)


def guide(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """CFG-Zero* with the original's own view: four axes for a tensor of five, which is right for a batch of one alone.

    pipeline_longcat_video.py:368-377, 584: a batch of two raises, a batch as large as the channels scales the wrong axis.
    """
    batch = cond.shape[0]
    c, u = cond.reshape(batch, -1), uncond.reshape(batch, -1)
    st_star = ((c * u).sum(1, keepdim=True) / ((u * u).sum(1, keepdim=True) + 1e-8)).view(batch, 1, 1, 1)
    return uncond * st_star + scale * (cond - uncond * st_star)


def set_timesteps(scheduler, steps: int) -> None:
    """The unshifted list, which the scheduler shifts once (pipeline_longcat_video.py:323)."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.001, steps))
