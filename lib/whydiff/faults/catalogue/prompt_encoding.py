"""Faults of stage `prompt_encoding` around the encoder: its mask, its padding rows, and which layer is taken."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.faults.fault import Trial, fault
from whydiff.faults.hosts.weights import lively
from whydiff.faults.rewriting import edit

_WAN_ENCODES = "self.text_encoder(text_input_ids.to(model_device), mask.to(model_device))"


@fault("encoder-mask-passed-or-not", "flux", "flux_port", "wan", "sd3", "sd15", "ltx")
def _(trial: Trial) -> None:
    pipeline, kind = trial.faulty.pipeline, trial.faulty.kind
    if kind == "flux_port":
        pipeline.options = dataclasses.replace(pipeline.options, mask_text_padding=True)
    elif kind == "wan":
        edit(pipeline, "_get_t5_prompt_embeds", (_WAN_ENCODES, _WAN_ENCODES.replace(", mask.to(model_device)", "")))
    elif kind == "sd15":
        pipeline.text_encoder.config.use_attention_mask = True
    else:
        call = {"flux": "self.text_encoder_2(text_input_ids.to(model_device), output_hidden_states=False)",
                "sd3": "self.text_encoder_3(text_input_ids.to(device))",
                "ltx": "self.text_encoder(text_input_ids.to(device))"}[kind]  # fmt: skip
        edit(pipeline, "_get_t5_prompt_embeds", (call, f"{call[:-1]}, attention_mask=text_inputs.attention_mask)"))


@fault("padded-rows-zeroed-wrongly", "flux", "sd15", "sd3")
def _(trial: Trial) -> None:
    """Embeddings are multiplied by the tokenizer's mask."""
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "sd15":
        line = "prompt_embeds = prompt_embeds.to(dtype=prompt_embeds_dtype, device=device)"
        lines = [line, f"negative_{line}".replace("= prompt_embeds.to", "= negative_prompt_embeds.to")]
        masked = [f"{lines[0]}; prompt_embeds = prompt_embeds * text_inputs.attention_mask[..., None]",
                  f"{lines[1]}; negative_prompt_embeds = negative_prompt_embeds * uncond_input.attention_mask[..., None]"]  # fmt: skip
        marked = [(lines[1], "# negative"), ("        " + lines[0], "        " + masked[0]), ("# negative", masked[1])]
        edit(pipeline, "encode_prompt", *marked)
        return
    line = "prompt_embeds = prompt_embeds.to(dtype=dtype, device=device)"
    edit(pipeline, "_get_t5_prompt_embeds", (line, f"{line}; prompt_embeds = prompt_embeds * text_inputs.attention_mask[..., None]"))


@fault("padded-rows-not-zeroed", "wan", "wan_i2v")
def _(trial: Trial) -> None:
    """Wan's encoder output goes on as it is, without the cut to the prompt's length and the zeros."""
    edit(trial.faulty.pipeline, "_get_t5_prompt_embeds", ("[u[:v] for u, v in zip(prompt_embeds, seq_lens)]", "list(prompt_embeds)"))


@fault("encoder-batch-padding-dependence", "wan", prompt=["a red circle", "two yellow triangles on black"],
       negative_prompt=["two blue squares", "two blue squares"])  # fmt: skip
def _(trial: Trial) -> None:
    """Padded to the longest prompt of the batch, and encoded without a mask."""
    edit(trial.faulty.pipeline, "_get_t5_prompt_embeds", ('padding="max_length"', 'padding="longest"'),
         (_WAN_ENCODES, _WAN_ENCODES.replace(", mask.to(model_device)", "")))  # fmt: skip


@fault("clip-skip", "sdxl", "sd3", "sd15", "sd15_euler")
def _(trial: Trial) -> None:
    """The last layer where the last but one is meant, or the reverse."""
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind.startswith("sd15"):
        # The text model is the encoder itself in newer transformers; this branch of diffusers still looks for it below.
        edit(pipeline, "encode_prompt", ("if clip_skip is None:", "clip_skip = clip_skip or 1\n            if clip_skip is None:"),
             ("self.text_encoder.text_model.final_layer_norm", "self.text_encoder.final_layer_norm"))  # fmt: skip
    else:
        edit(pipeline, "encode_prompt" if trial.faulty.kind == "sdxl" else "_get_clip_prompt_embeds",
             ("prompt_embeds.hidden_states[-2]", "prompt_embeds.hidden_states[-1]"))  # fmt: skip


def _takes_layers(pipeline, layers: tuple[int, ...]) -> None:
    """Qwen-Image's encoding from several hidden layers side by side, as FLUX.2 has it."""
    states = "encoder_hidden_states.hidden_states"
    edit(pipeline, "_get_qwen_prompt_embeds", (f"{states}[-1]", f"torch.cat([{states}[k] for k in {layers}], dim=-1)"))


def _wider_context(pipeline, layers: int) -> None:
    """The denoiser's first text layers for `layers` times the width, with weights of their own."""
    network = pipeline.transformer
    width = layers * network.txt_in.in_features
    draw = torch.nn.Linear(width, network.txt_in.out_features)
    network.txt_in = lively(draw, 911)
    network.txt_norm = lively(type(network.txt_norm)(width, eps=network.txt_norm.eps), 912)
    network.register_to_config(joint_attention_dim=width)


def _several_layers(trial: Trial, right: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    for host, layers in ((trial.faulty, wrong), (trial.healthy, right)):
        _wider_context(host.pipeline, len(layers))
        _takes_layers(host.pipeline, layers)


@fault("wrong-layer-list", "qwen")
def _(trial: Trial) -> None:
    """Two of the four hidden states; the faulty side has another model's list."""
    right = (1, 3)
    _several_layers(trial, right, trial.draw.choice([(1, 2), (0, 3), (2, 3), (0, 1)]))


@fault("hidden-state-index-base", "qwen")
def _(trial: Trial) -> None:
    """hidden_states[k] is the output of layer k counted from 1, as the embeddings are number 0: counted from 0 it is k + 1."""
    right = trial.draw.choice([(0, 2), (1, 2), (0, 1)])
    _several_layers(trial, right, tuple(k + 1 for k in right))
