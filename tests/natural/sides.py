"""The small models as each version of diffusers loads them. Tokenizers are read from their files: older transformers cannot
read how newer ones describe them."""

from pathlib import Path

import torch

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


def wan(flow_shift=12.0):
    from diffusers import UniPCMultistepScheduler, WanPipeline

    tokenizer = _tokenizer("tiny-wan/tokenizer", 32, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    pipeline = WanPipeline.from_pretrained(MODELS / "tiny-wan", torch_dtype=torch.float32, tokenizer=None)
    pipeline.register_modules(tokenizer=tokenizer)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=flow_shift)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux():
    from diffusers import FluxPipeline

    end = "<|endoftext|>"
    clip = _tokenizer("tiny-flux/tokenizer", 16, bos_token="<|startoftext|>", eos_token=end, pad_token=end, unk_token=end)
    t5 = _tokenizer("tiny-flux/tokenizer_2", 16, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    pipeline = FluxPipeline.from_pretrained(MODELS / "tiny-flux", torch_dtype=torch.float32, tokenizer=None, tokenizer_2=None)
    pipeline.register_modules(tokenizer=clip, tokenizer_2=t5)
    pipeline.tokenizer_max_length = 16  # which the pipeline asked a tokenizer that was not there yet
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _tokenizer(folder: str, longest: int, **tokens):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(MODELS / folder / "tokenizer.json"), model_max_length=longest, **tokens)
