"""A host whose text encoder is a language model: Qwen-Image, with a chat template, rotary positions and normed true guidance."""

from __future__ import annotations

import functools

from whydiff.faults.fault import Host
from whydiff.faults.hosts.flow import run_once
from whydiff.faults.hosts.parts import PROMPT
from whydiff.faults.hosts.weights import lively, output_of_std

_WORDS = ["system", "user", "assistant", "Describe the image by its color and shape", "two blue squares on black",
          "a red circle on white", "one green triangle, yellow and small"]  # fmt: skip
_BEFORE = "<|im_start|>system\nDescribe the image by its color and shape:<|im_end|>\n<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"


@functools.cache
def _tokenizer_parts() -> str:
    """A byte-level BPE as Qwen2's, its merges learnt from a few sentences, as JSON."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, min_frequency=1, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])  # fmt: skip
    made.train_from_iterator([f"{word} {word}" for word in _WORDS], trainer)
    return made.to_str()


def chat_tokenizer():
    """A tokenizer with Qwen2's special tokens and conventions, and no more than 400 words."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_tokenizer_parts()), eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>", padding_side="right", model_max_length=128)  # fmt: skip


def _language_model(seed: int, vocabulary: int):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
                     "num_key_value_heads": 2, "vocab_size": vocabulary, "max_position_embeddings": 256,
                     "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}},
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 48,
                       "patch_size": 14, "spatial_merge_size": 2, "fullatt_block_indexes": [0]},
        image_token_id=1, video_token_id=1, vision_start_token_id=1, vision_end_token_id=1)  # fmt: skip
    return lively(Qwen2_5_VLForConditionalGeneration(config), seed)


def qwen() -> Host:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    tokenizer = chat_tokenizer()
    network = QwenImageTransformer2DModel(patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=24,
                                          num_attention_heads=2, joint_attention_dim=48, axes_dims_rope=(8, 8, 8))  # fmt: skip
    vae = AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256,
                                                max_image_seq_len=8192, shift_terminal=0.02)  # fmt: skip
    pipeline = QwenImagePipeline(scheduler=scheduler, vae=lively(vae, 600), text_encoder=_language_model(601, len(tokenizer)),
                                 tokenizer=tokenizer, transformer=lively(network, 602))  # fmt: skip
    pipeline.prompt_template_encode = _BEFORE + "{}" + _AFTER
    pipeline.prompt_template_encode_start_idx = len(tokenizer(_BEFORE).input_ids)
    pipeline.set_progress_bar_config(disable=True)
    call = {"prompt": PROMPT, "negative_prompt": "a red circle", "true_cfg_scale": 4.0, "height": 32, "width": 48,
            "num_inference_steps": 4, "max_sequence_length": 64, "seed": 0}  # fmt: skip
    output_of_std(network, network.proj_out, 1.0, run_once(pipeline, call))
    output_of_std(pipeline.vae.decoder, pipeline.vae.decoder.conv_out, 0.4, run_once(pipeline, call))
    return Host("qwen", pipeline, call)
