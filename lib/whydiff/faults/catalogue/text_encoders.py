"""Faults of stage `prompt_encoding` inside the encoder: precision, norms, positions, and the picture it may see."""

from __future__ import annotations

import torch
from torch import nn

from whydiff.faults.fault import Host, Trial, fault
from whydiff.faults.rewriting import edit, results_as

_ENCODERS = {"flux": ("text_encoder", "text_encoder_2"), "sd15": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2"),
             "sd3": ("text_encoder", "text_encoder_2", "text_encoder_3"), "wan": ("text_encoder",), "qwen": ("text_encoder",)}  # fmt: skip


def _encoder(host: Host, name: str) -> nn.Module:
    return getattr(host.pipeline, name)


def _halve(host: Host, name: str, dtype: torch.dtype) -> None:
    """Run one encoder in another precision; what the pipeline goes on with is float32."""
    _encoder(host, name).to(dtype)
    results_as(host.pipeline, torch.float32)


@fault("text-encoder-norm-eps", "flux", "sd15", "sdxl", "sd3", "wan", "qwen")
def _(trial: Trial) -> None:
    """Every norm of an encoder takes the epsilon of another framework (Keras: 1e-3)."""
    found = []
    names = _ENCODERS[trial.faulty.kind]
    for module in _encoder(trial.faulty, trial.draw.choice(names)).modules():
        for key in ("eps", "variance_epsilon"):
            if isinstance(getattr(module, key, None), float):
                found.append((module, key))
    for module, key in found:
        setattr(module, key, 1e-3)


@fault("text-encoder-precision", "flux", "sd15", "sdxl", "sd3", "wan", "qwen")
def _(trial: Trial) -> None:
    name = trial.draw.choice(_ENCODERS[trial.faulty.kind])
    _halve(trial.faulty, name, trial.draw.choice([torch.bfloat16, torch.bfloat16, torch.float16]))


@fault("text-encoder-nonfinite", "sd15", "flux", "sdxl")
def _(trial: Trial) -> None:
    """One MLP of a checkpoint is large enough to overflow in float16, in which one side runs it."""
    layer = trial.draw.randrange(2)
    for host in (trial.faulty, trial.healthy):
        mlp = next(m for name, m in _encoder(host, "text_encoder").named_modules() if name.endswith(f"layers.{layer}.mlp"))
        with torch.no_grad():
            mlp.fc1.weight.mul_(2.0**15)
            mlp.fc2.weight.mul_(2.0**-15)
    _halve(trial.faulty, "text_encoder", torch.float16)


def _largest_output(host: Host, layers: list[nn.Module]) -> float:
    """The largest value that any of `layers` gives for the host's prompt."""
    seen = []
    handles = [layer.register_forward_hook(lambda _m, _i, output: seen.append(output.abs().max().item())) for layer in layers]
    with torch.no_grad():
        host.pipeline.encode_prompt(host.call["prompt"], **({"prompt_2": None} if host.kind == "flux" else {}))
    for handle in handles:
        handle.remove()
    return max(seen)


@fault("fp32-exempt-modules-lost", "flux", "wan")
def _(trial: Trial) -> None:
    """T5 in float16 with its output projections in float32, as from_pretrained keeps them, against a plain .half().

    The projections of both are as large as T5-XXL's: some outputs are beyond float16.
    """
    name = {"flux": "text_encoder_2", "wan": "text_encoder"}[trial.faulty.kind]
    beyond = trial.draw.choice([2.0, 3.0, 4.0])

    def projections(host):
        return [module for path, module in _encoder(host, name).named_modules() if path.endswith(".wo")]

    factor = beyond * 65504 / _largest_output(trial.healthy, projections(trial.healthy))
    for host in (trial.faulty, trial.healthy):
        for projection in projections(host):
            with torch.no_grad():
                projection.weight.mul_(factor)
        _halve(host, name, torch.float16)
    for projection in projections(trial.healthy):
        projection.float()


@fault("relative-bias-sharing", "wan", "wan_i2v")
def _(trial: Trial) -> None:
    """UMT5 has a table of relative positions per layer; a T5 encoder takes the first layer's for all."""
    attentions = [m for m in trial.faulty.pipeline.text_encoder.modules() if getattr(m, "has_relative_attention_bias", False) is True
                  and hasattr(m, "compute_bias")]  # fmt: skip
    for attention in attentions[1:]:
        attention.compute_bias = attentions[0].compute_bias


@fault("text-encoder-rope-layout", "qwen")
def _(trial: Trial) -> None:
    """Neighbouring pairs are turned where the first half of a head is turned against the second."""

    def interleaved(q, k, cos, sin, unsqueeze_dim=1):
        half = cos.shape[-1] // 2
        cos, sin = (part[..., :half].repeat_interleave(2, dim=-1).unsqueeze(unsqueeze_dim) for part in (cos, sin))

        def turned(x):
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)

        return q * cos + turned(q) * sin, k * cos + turned(k) * sin

    for name, module in trial.faulty.pipeline.text_encoder.named_modules():
        if name.endswith(".self_attn"):
            edit(module, "forward", apply_rotary_pos_emb=interleaved)


_PICTURE = "<|endoftext|>" * 16  # the place of a picture of 8 x 8 patches, merged 2 x 2


def _shows_a_picture(host: Host, negative_too: bool = True) -> None:
    """Qwen-Image as an edit pipeline: the prompt begins with a picture, which the language model's vision tower looks at."""
    pipeline = host.pipeline
    encoder = pipeline.text_encoder
    token = pipeline.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for config in (encoder.config, encoder.model.config):
        config.image_token_id = token
    patches = torch.randn(64, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(5))
    grid = torch.tensor([[1, 8, 8]])

    def seen(ids):
        if not (ids == token).any():
            return {}
        return {"pixel_values": patches, "image_grid_thw": grid, "mm_token_type_ids": (ids == token).int()}

    edit(pipeline, "_get_qwen_prompt_embeds", ("output_hidden_states=True,", "output_hidden_states=True, **seen(txt_tokens.input_ids),"),
         seen=seen)  # fmt: skip
    changes = [("(\n            prompt=prompt,", "(\n            prompt=picture + prompt,")]
    if negative_too:
        changes.append(("(\n                prompt=negative_prompt,", "(\n                prompt=picture + negative_prompt,"))
    edit(pipeline, "__call__", *changes, picture=_PICTURE)


@fault("negative-image-dropped", "qwen", "wan_i2v")
def _(trial: Trial) -> None:
    """The unconditional branch is given its text alone."""
    if trial.faulty.kind == "wan_i2v":
        branch = "encoder_hidden_states=negative_prompt_embeds,\n                            encoder_hidden_states_image="
        edit(trial.faulty.pipeline, "__call__", (f"{branch}image_embeds", f"{branch}torch.zeros_like(image_embeds)"))
        return
    _shows_a_picture(trial.healthy)
    _shows_a_picture(trial.faulty, negative_too=False)


@fault("vision-rotary-low-precision", "qwen")
def _(trial: Trial) -> None:
    """Frequencies in bfloat16, and so the angles, cosines and sines made of them."""
    for host in (trial.faulty, trial.healthy):
        _shows_a_picture(host)
    low = "position_ids[..., None].to(torch.bfloat16) * self.inv_freq.to(device=x.device, dtype=torch.bfloat16)"
    edit(trial.faulty.pipeline.text_encoder.model.visual.rotary_pos_emb, "forward",
         ("position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)", low))  # fmt: skip
