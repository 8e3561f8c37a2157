"""CLIP's and T5's text encoders in plain torch: CLIP gives one vector per prompt, T5 one per token."""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from tokenizers import Tokenizer
from torch import Tensor, nn


class TextTokenizer:
    """Prompts -> (B, L) int64 ids, padded and cut to a length. Reads tokenizer.json, without transformers."""

    def __init__(self, folder: Path):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.max_length = config["model_max_length"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pad_token = config["pad_token"]
        self.pad_id = self.tokenizer.token_to_id(self.pad_token)

    def __call__(self, prompts: list[str], length: int) -> Tensor:
        self.tokenizer.enable_truncation(length)
        self.tokenizer.enable_padding(length=length, pad_id=self.pad_id, pad_token=self.pad_token)
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(prompts)])


class SelfAttention(nn.Module):
    """(B, L, D) -> (B, L, D), q, k and v from one matrix. `mask` is added to the scores, (.., L, L)."""

    def __init__(self, dim: int, inner: int, heads: int, bias: bool, scale: float | None):
        super().__init__()
        self.heads, self.scale = heads, scale
        self.qkv = nn.Linear(dim, 3 * inner, bias=bias)
        self.proj = nn.Linear(inner, dim, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=self.scale)
        return self.proj(rearrange(out, "b h l d -> b l (h d)"))


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation, any shape."""
    return x * torch.sigmoid(1.702 * x)


CLIP_ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class ClipBlock(nn.Module):
    """(B, L, D) -> (B, L, D); each token sees those before it."""

    def __init__(self, config: dict):
        super().__init__()
        dim, eps = config["hidden_size"], config["layer_norm_eps"]
        self.activation = CLIP_ACTIVATIONS[config["hidden_act"]]
        self.ln_1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, dim, config["num_attention_heads"], bias=True, scale=None)
        self.ln_2 = nn.LayerNorm(dim, eps=eps)
        self.c_fc = nn.Linear(dim, config["intermediate_size"])
        self.c_proj = nn.Linear(config["intermediate_size"], dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal=True)
        return x + self.c_proj(self.activation(self.c_fc(self.ln_2(x))))


class ClipTextEncoder(nn.Module):
    """ids (B, L) -> pooled (B, D): the last hidden state at the first end-of-text token."""

    def __init__(self, config: dict):
        super().__init__()
        self.eos_token_id = config["eos_token_id"]
        self.token_embedding = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.positional_embedding = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])
        self.resblocks = nn.ModuleList(ClipBlock(config) for _ in range(config["num_hidden_layers"]))
        self.ln_final = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.positional_embedding.weight[: ids.shape[1]]
        for block in self.resblocks:
            x = block(x)
        # 2 is what configs written before transformers #24773 say; there the end-of-text id is the highest.
        found = ids if self.eos_token_id == 2 else (ids == self.eos_token_id).int()
        return self.ln_final(x)[torch.arange(len(ids)), found.argmax(dim=-1)]


class RelativePosition(nn.Module):
    """The bias (1, heads, L, L) that T5 adds to its scores: exact for near tokens, coarser for far ones."""

    def __init__(self, buckets: int, max_distance: int, heads: int):
        super().__init__()
        self.buckets, self.max_distance = buckets, max_distance
        self.embedding = nn.Embedding(buckets, heads)

    def forward(self, length: int) -> Tensor:
        position = torch.arange(length, device=self.embedding.weight.device)
        offset = position[None, :] - position[:, None]
        half, distance = self.buckets // 2, offset.abs()
        exact = half // 2
        far = torch.log(distance.float() / exact) / math.log(self.max_distance / exact) * (half - exact)
        far = (exact + far.clamp(min=0).long()).clamp(max=half - 1)
        bucket = (offset > 0) * half + torch.where(distance < exact, distance, far)
        return rearrange(self.embedding(bucket), "q k h -> 1 h q k")


class T5Block(nn.Module):
    """(B, L, D) -> (B, L, D). `mask` (1 or B, heads, L, L) is added to the scores."""

    def __init__(self, config: dict):
        super().__init__()
        dim, eps = config["d_model"], config["layer_norm_epsilon"]
        inner = config["num_heads"] * config["d_kv"]
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, inner, config["num_heads"], bias=False, scale=1.0)  # T5 does not scale
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.gate_and_up = nn.Linear(dim, 2 * config["d_ff"], bias=False)
        self.down = nn.Linear(config["d_ff"], dim, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        gate, up = self.gate_and_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.gelu(gate, approximate="tanh") * up)


class T5Encoder(nn.Module):
    """ids (B, L) -> prompt_embeds (B, L, D). `attend_to` (B, L) bool leaves tokens out; FLUX passes none."""

    def __init__(self, config: dict):
        super().__init__()
        if (found := config["feed_forward_proj"]) != "gated-gelu":
            raise ValueError(f"this port knows feed_forward_proj 'gated-gelu', the checkpoint has {found!r}")
        self.embedding = nn.Embedding(config["vocab_size"], config["d_model"])
        self.position = RelativePosition(config["relative_attention_num_buckets"],
                                         config["relative_attention_max_distance"], config["num_heads"])
        self.blocks = nn.ModuleList(T5Block(config) for _ in range(config["num_layers"]))
        self.norm = nn.RMSNorm(config["d_model"], eps=config["layer_norm_epsilon"])

    def forward(self, ids: Tensor, attend_to: Tensor | None = None) -> Tensor:
        x, mask = self.embedding(ids), self.position(ids.shape[1])
        if attend_to is not None:
            mask = mask.masked_fill(~attend_to[:, None, None, :], torch.finfo(mask.dtype).min)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
