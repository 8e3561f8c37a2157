"""The parts that hosts share: tokenizers of data/models/tiny-flux, small text encoders, a small VAE."""

from __future__ import annotations

import copy
import functools

from whydiff.evidence.surroundings.defaults import data_folder
from whydiff.faults.hosts.weights import lively

PROMPT = "two blue squares on black"


def models():
    """data/models of the checkout."""
    return data_folder("models")


@functools.cache
def _tokenizer(name: str):
    from transformers import CLIPTokenizer, T5Tokenizer

    kind = CLIPTokenizer if name == "tokenizer" else T5Tokenizer
    return kind.from_pretrained(models() / "tiny-flux" / name)


def clip_tokenizer(pad: str | None = None):
    """tiny-flux's CLIP tokenizer: 16 tokens long, 182 words. `pad`: "!" as in SDXL's second one."""
    tokenizer = copy.deepcopy(_tokenizer("tokenizer"))
    if pad is not None:
        tokenizer.pad_token = pad
    return tokenizer


def t5_tokenizer():
    """tiny-flux's T5 tokenizer: 113 words."""
    return copy.deepcopy(_tokenizer("tokenizer_2"))


def clip(seed: int, width: int = 32, layers: int = 3, projection: int | None = None, act: str = "quick_gelu"):
    """A CLIP text model of 16 tokens; with `projection`, CLIPTextModelWithProjection of that width."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(vocab_size=182, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
                            num_attention_heads=4, max_position_embeddings=16, projection_dim=projection or width,
                            bos_token_id=180, eos_token_id=181, pad_token_id=181, hidden_act=act)  # fmt: skip
    return lively((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5(seed: int, width: int = 48, layers: int = 2):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=113, d_model=width, d_kv=16, d_ff=2 * width, num_layers=layers, num_heads=3,
                      feed_forward_proj="gated-gelu", relative_attention_num_buckets=16, relative_attention_max_distance=32,
                      dropout_rate=0.0, is_encoder_decoder=False, use_cache=False, tie_word_embeddings=False)  # fmt: skip
    return lively(T5EncoderModel(config), seed)


def vae(seed: int, channels: int = 4, quant: bool = True, **config):
    """AutoencoderKL of factor 4 with attention in the middle and, unless told otherwise, both 1x1 quant convolutions."""
    from diffusers import AutoencoderKL

    widths = (16, 32, 32)
    made = AutoencoderKL(block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 3, latent_channels=channels,
                         up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=8, sample_size=64,
                         use_quant_conv=quant, use_post_quant_conv=quant, **config)  # fmt: skip
    return lively(made, seed)
