"""The prompt, and the class that its encoder's weights are loaded into."""

import copy
import functools

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

LENGTH, VOCABULARY = 32, 128
# 24 layers as google/umt5-xl has them, each very small: the number of tensors that go missing is the real one.
SIZES = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 24, "num_heads": 4,
         "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0}  # fmt: skip
CLASSES = {"umt5": (UMT5EncoderModel, UMT5Config), "t5": (T5EncoderModel, T5Config)}


def tokenize(prompt: str) -> tuple[Tensor, Tensor]:
    """Words -> ids and mask, both (1, LENGTH); each word is the sum of its letters, 1 ends the prompt and 0 pads it."""
    ids = [2 + sum(map(ord, word)) % (VOCABULARY - 2) for word in prompt.split()][: LENGTH - 1] + [1]
    padding = [0] * (LENGTH - len(ids))
    return torch.tensor([ids + padding]), torch.tensor([[1] * len(ids) + padding])


def load_text_encoder(kind: str, checkpoint: dict[str, Tensor]) -> tuple[nn.Module, list[str]]:
    """An encoder of class `kind` filled from a UMT5 checkpoint, and the names that the class had no place for.

    As `from_pretrained` does, what does not fit is left out and nothing is raised.
    """
    encoder = copy.deepcopy(_empty(kind))
    return encoder, list(encoder.load_state_dict(checkpoint, strict=False).unexpected_keys)


@functools.cache
def _empty(kind: str) -> nn.Module:
    model, config = CLASSES[kind]
    return model(config(**SIZES)).eval()


@functools.cache
def make_checkpoint(seed: int) -> dict[str, Tensor]:
    """Random weights of a UMT5 encoder; made once, and copied by whoever loads them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = UMT5EncoderModel(UMT5Config(**SIZES))
        for name, parameter in encoder.named_parameters():
            if "relative_attention_bias" in name:  # trained biases are of the size of the logits
                nn.init.normal_(parameter, std=2.0)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return encoder.state_dict()
