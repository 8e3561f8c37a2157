"""The FLUX transformer in plain torch, with the module names of black-forest-labs/flux (802fb47)."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

TIME_FACTOR = 1000  # timestep and guidance come as 0 to 1 and e.g. 3.5; the sinusoids want them times 1000
EMBEDDING_DIM = 256


def rotary_embedding(ids: Tensor, axes_dims: list[int], theta: float = 10000.0) -> Tensor:
    """Positions (L, A) -> rotation matrices (L, head_dim/2, 2, 2), float32; the A axes share out the head."""
    rotations = []
    for axis, dim in enumerate(axes_dims):
        frequencies = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float64, device=ids.device) / dim)
        angles = ids[:, axis, None].double() * frequencies
        cos, sin = angles.cos(), angles.sin()
        rotations.append(torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2)))
    return torch.cat(rotations, dim=1).float()


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """(B, heads, L, head_dim), each neighbouring pair turned by its (L, head_dim/2, 2, 2) matrix."""
    pairs = x.float().unflatten(-1, (-1, 1, 2))
    return (rotary[..., 0] * pairs[..., 0] + rotary[..., 1] * pairs[..., 1]).flatten(-2).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, rotary: Tensor | None) -> Tensor:
    """Three (B, heads, L, head_dim) -> (B, L, heads * head_dim). Without `rotary` it knows no positions."""
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


def sinusoids(t: Tensor) -> Tensor:
    """(B,) -> (B, 256): cosines, then sines, at wavelengths from 2 pi to 2 pi * 10000."""
    half = EMBEDDING_DIM // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(10000) * index / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class MLPEmbedder(nn.Module):
    """(B, in_dim) -> (B, dim): one term of the vector that modulates every block."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.in_layer = nn.Linear(in_dim, dim)
        self.out_layer = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class Modulation(nn.Module):
    """(B, dim) -> `count` tensors (B, 1, dim): shift, scale and gate, once or twice."""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.count = count
        self.lin = nn.Linear(dim, count * dim)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        return self.lin(F.silu(vec))[:, None].chunk(self.count, dim=-1)


class QKNorm(nn.Module):
    """RMS norms of queries and keys, each (B, heads, L, head_dim)."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.query_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(head_dim, eps=1e-6)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return self.query_norm(q), self.key_norm(k)


class Projections(nn.Module):
    """What one stream brings to the joint attention: q, k and v from one matrix, and the way back."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm = QKNorm(dim // heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, dim) -> three (B, heads, L, head_dim)."""
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        return *self.norm(q, k), v


def feed_forward(dim: int) -> nn.Sequential:
    """(B, L, dim) -> (B, L, dim)."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))


def plain_norm(dim: int) -> nn.LayerNorm:
    """(B, L, dim) -> (B, L, dim), without weights: the modulation has them."""
    return nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)


class DoubleStreamBlock(nn.Module):
    """Image and text, each with its own weights, meet in one attention (text first)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        for stream in ("img", "txt"):
            self.add_module(f"{stream}_mod", Modulation(dim, 6))
            self.add_module(f"{stream}_norm1", plain_norm(dim))
            self.add_module(f"{stream}_attn", Projections(dim, heads))
            self.add_module(f"{stream}_norm2", plain_norm(dim))
            self.add_module(f"{stream}_mlp", feed_forward(dim))

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor, rotary: Tensor | None) -> tuple[Tensor, Tensor]:
        """img (B, N, dim), txt (B, L, dim), vec (B, dim), rotary (L + N, ...) -> img, txt."""
        img_mod, txt_mod = self.img_mod(vec), self.txt_mod(vec)
        img_qkv = self.img_attn(self.img_norm1(img) * (1 + img_mod[1]) + img_mod[0])
        txt_qkv = self.txt_attn(self.txt_norm1(txt) * (1 + txt_mod[1]) + txt_mod[0])
        joint = attend(*(torch.cat(pair, dim=2) for pair in zip(txt_qkv, img_qkv, strict=True)), rotary)
        txt_part, img_part = joint[:, : txt.shape[1]], joint[:, txt.shape[1] :]
        img = img + img_mod[2] * self.img_attn.proj(img_part)
        img = img + img_mod[5] * self.img_mlp(self.img_norm2(img) * (1 + img_mod[4]) + img_mod[3])
        txt = txt + txt_mod[2] * self.txt_attn.proj(txt_part)
        txt = txt + txt_mod[5] * self.txt_mlp(self.txt_norm2(txt) * (1 + txt_mod[4]) + txt_mod[3])
        return img, txt


class SingleStreamBlock(nn.Module):
    """Attention and feed-forward side by side: one matrix in (q, k, v, mlp), one matrix out."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.split = [3 * dim, 4 * dim]
        self.modulation = Modulation(dim, 3)
        self.pre_norm = plain_norm(dim)
        self.linear1 = nn.Linear(dim, sum(self.split))
        self.norm = QKNorm(dim // heads)
        self.linear2 = nn.Linear(dim + 4 * dim, dim)

    def forward(self, x: Tensor, vec: Tensor, rotary: Tensor | None) -> Tensor:
        """x (B, L + N, dim), text first -> the same shape."""
        shift, scale, gate = self.modulation(vec)
        qkv, mlp = self.linear1(self.pre_norm(x) * (1 + scale) + shift).split(self.split, dim=-1)
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.heads)
        attention = attend(*self.norm(q, k), v, rotary)
        return x + gate * self.linear2(torch.cat([attention, F.gelu(mlp, approximate="tanh")], dim=-1))


class FinalLayer(nn.Module):
    """(B, N, dim) -> (B, N, out_channels). The modulation is shift, then scale (diffusers: the other way)."""

    def __init__(self, dim: int, out_channels: int):
        super().__init__()
        self.modulation = Modulation(dim, 2)
        self.norm = plain_norm(dim)
        self.linear = nn.Linear(dim, out_channels)

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        shift, scale = self.modulation(vec)
        return self.linear(self.norm(x) * (1 + scale) + shift)


class FluxTransformer(nn.Module):
    """Predicts the velocity (noise - image) of packed latents. `config` is transformer/config.json."""

    def __init__(self, config: dict):
        super().__init__()
        heads = config["num_attention_heads"]
        dim = heads * config["attention_head_dim"]
        self.axes_dims = config["axes_dims_rope"]
        self.img_in = nn.Linear(config["in_channels"], dim)
        self.txt_in = nn.Linear(config["joint_attention_dim"], dim)
        self.time_in = MLPEmbedder(EMBEDDING_DIM, dim)
        self.guidance_in = MLPEmbedder(EMBEDDING_DIM, dim) if config["guidance_embeds"] else None
        self.vector_in = MLPEmbedder(config["pooled_projection_dim"], dim)
        doubles, singles = config["num_layers"], config["num_single_layers"]
        self.double_blocks = nn.ModuleList(DoubleStreamBlock(dim, heads) for _ in range(doubles))
        self.single_blocks = nn.ModuleList(SingleStreamBlock(dim, heads) for _ in range(singles))
        self.final_layer = FinalLayer(dim, config["out_channels"] or config["in_channels"])

    def forward(self, img: Tensor, txt: Tensor, y: Tensor, timestep: Tensor, guidance: Tensor | None,
                rotary: Tensor | None) -> Tensor:
        """img (B, N, 4C), txt (B, L, D), y (B, P), timestep (B,) from 0 to 1, guidance (B,) e.g. 3.5,
        rotary (L + N, head_dim/2, 2, 2) of text, then image -> velocity (B, N, 4C)."""
        vec = self.time_in(sinusoids(timestep.to(img.dtype) * TIME_FACTOR).to(y.dtype))
        if self.guidance_in is not None:
            vec = vec + self.guidance_in(sinusoids(guidance.to(img.dtype) * TIME_FACTOR).to(y.dtype))
        vec = vec + self.vector_in(y)
        img, txt = self.img_in(img), self.txt_in(txt)
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, rotary)
        x = torch.cat([txt, img], dim=1)
        for block in self.single_blocks:
            x = block(x, vec, rotary)
        return self.final_layer(x[:, txt.shape[1] :], vec)
