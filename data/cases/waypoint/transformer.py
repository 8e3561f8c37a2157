"""One call, one frame: a small diffusion transformer that looks at the keys of earlier frames."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .memory import Memory
from .options import Options

WIDTH, HEADS, CHANNELS, PATCH, SIDE, CONTROLS = 32, 4, 4, 2, 8, 3
TOKENS = (SIDE // PATCH) ** 2
HEAD = WIDTH // HEADS


class RMSNorm(nn.Module):
    """x / sqrt(mean x² + eps), without weights. The mean may be taken in another dtype."""

    def __init__(self, eps: float | None, dtype: str):
        super().__init__()
        self.eps, self.dtype = eps, getattr(torch, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.dtype == torch.float32:
            return F.rms_norm(x, x.shape[-1:], eps=self.eps)
        low = x.to(self.dtype)
        return x * torch.rsqrt(low.pow(2).mean(-1, keepdim=True) + (self.eps or 0.0)).to(x.dtype)


class SigmaEmbedding(nn.Module):
    """Fourier features of 1000 · sigma at frequencies from 1 down to 1e-4, then a small network."""

    def __init__(self, rounded: bool):
        super().__init__()
        frequencies = torch.logspace(0, -4, WIDTH // 2)
        self.register_buffer("frequencies", frequencies.bfloat16().float() if rounded else frequencies)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, sigma: Tensor) -> Tensor:
        phase = 1000 * sigma[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.cos(), phase.sin()], -1))


class Block(nn.Module):
    def __init__(self, options: Options, layer: int, crossing: bool):
        super().__init__()
        self.layer = layer
        self.norm = RMSNorm(options.norm_eps, options.norm_dtype)
        self.modulation = nn.Linear(WIDTH, 4 * WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.cross = CrossAttention() if crossing else None
        self.control = nn.Linear(CONTROLS, WIDTH) if crossing else None
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor, embedding: Tensor, text: Tensor, text_mask: Tensor, control: Tensor, turn: tuple[Tensor, Tensor],
                past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (tokens, WIDTH) -> x, and this frame's keys and values (tokens, heads, D)."""
        scale, gate, mlp_scale, mlp_gate = self.modulation(F.silu(embedding)).chunk(4, -1)
        query, key, value = self.qkv(self.norm(x) * (1 + scale)).unflatten(-1, (3, HEADS, HEAD)).unbind(-3)
        query, key = rotate(self.norm(query), *turn), rotate(self.norm(key), *turn)
        keys, values = (key, value) if past is None else (torch.cat([past[0], key]), torch.cat([past[1], value]))
        seen = F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in (query, keys, values)))
        x = x + (1 + gate) * self.out(seen.transpose(0, 1).flatten(1))
        if self.cross is not None:
            x = x + self.cross(self.norm(x), text, text_mask) + self.control(control)
        return x + (1 + mlp_gate) * self.mlp(self.norm(x) * (1 + mlp_scale)), key, value


class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.kv, self.out = (nn.Linear(WIDTH, n * WIDTH, bias=False) for n in (1, 2, 1))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x (tokens, WIDTH), text (L, WIDTH), mask (L,): 0 where text is not to be looked at."""
        query = self.query(x).unflatten(-1, (HEADS, HEAD)).transpose(0, 1)
        key, value = self.kv(text).unflatten(-1, (2, HEADS, HEAD)).unbind(-3)
        seen = F.scaled_dot_product_attention(query, key.transpose(0, 1), value.transpose(0, 1), attn_mask=mask.bool()[None, None])
        return self.out(seen.transpose(0, 1).flatten(1))


class WorldTransformer(nn.Module):
    def __init__(self, options: Options):
        super().__init__()
        self.embed = nn.Linear(CHANNELS * PATCH**2, WIDTH)
        self.position = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.5)
        self.sigma_embedding = SigmaEmbedding(options.round_frequencies)
        self.blocks = nn.ModuleList(Block(options, i, crossing=i % 3 == 0) for i in range(options.layers))
        self.head = nn.Linear(WIDTH, CHANNELS * PATCH**2)

    def forward(self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor,
                control: Tensor, frame: int, memory: Memory, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """latents (1, C, H, W) at noise level `timestep` (1,), 1 = noise -> velocity of that shape, and this frame's keys and
        values (layers, tokens, heads, D). `visible` (layers, frames) says which earlier frames each layer looks at."""
        x = self.embed(F.pixel_unshuffle(latents, PATCH)[0].flatten(1).T) + self.position
        embedding, turn, keys, values = self.sigma_embedding(timestep), rotation(frame), [], []
        for block in self.blocks:
            past = memory.read(block.layer, visible[block.layer])
            x, key, value = block(x, embedding, encoder_hidden_states[0], encoder_attention_mask[0], control, turn, past)
            keys.append(key)
            values.append(value)
        velocity = F.pixel_shuffle(self.head(x).T.reshape(1, -1, SIDE // PATCH, SIDE // PATCH), PATCH)
        return velocity, torch.stack(keys), torch.stack(values)


def rotation(frame: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (D / 2,) of a frame's rotary position in time, at geometric frequencies."""
    angle = frame * torch.exp(-math.log(10000) * torch.arange(HEAD // 2) / (HEAD // 2))
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (tokens, heads, D) turned pair by pair, (first half, second half)."""
    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)
