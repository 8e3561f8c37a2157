"""Benign: the same computation by other kernels, layouts, batches and threads."""

from __future__ import annotations

import functools
import math

import torch
from torch import nn

from whydiff.faults.benign import benign
from whydiff.faults.fault import Trial

# --- attention ------------------------------------------------------------------------------------------------------------


@benign("attention-math-flux", "flux")
@benign("attention-math-wan", "wan")
@benign("attention-math-qwen", "qwen")
def attention_math(trial: Trial) -> None:
    """Scores, softmax and sum written out instead of one fused kernel."""
    for name in ("transformer", "transformer_2"):
        if (network := trial.faulty.pipeline.components.get(name)) is not None:
            network.set_attention_backend("_native_math")


@benign("attention-eager-unet", "sd15")
@benign("attention-eager-unet-sdxl", "sdxl")
def attention_eager(trial: Trial) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    trial.faulty.pipeline.unet.set_attn_processor(AttnProcessor())
    trial.faulty.pipeline.vae.set_attn_processor(AttnProcessor())


@benign("attention-sliced", "sd15_dpm")
def attention_sliced(trial: Trial) -> None:
    trial.faulty.pipeline.enable_attention_slicing(1)


@benign("attention-eager-text-encoders", "sd3")
@benign("attention-eager-language-model", "qwen")
def attention_eager_text(trial: Trial) -> None:
    for name, part in trial.faulty.pipeline.components.items():
        if name.startswith("text_encoder") and hasattr(part, "set_attn_implementation") and part.config.model_type != "t5":
            part.set_attn_implementation("eager")


@benign("mask-of-ones-passed", "flux")
def mask_of_ones(trial: Trial) -> None:
    """A mask that hides nothing is no mask."""
    encoder = trial.faulty.pipeline.text_encoder_2
    original = encoder.forward

    @functools.wraps(original)
    def forward(input_ids=None, attention_mask=None, **kwargs):
        return original(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **kwargs)

    encoder.forward = forward


@benign("qkv-fused-unet", "sd15")
def qkv_fused(trial: Trial) -> None:
    trial.faulty.pipeline.fuse_qkv_projections()


# Not SD3: diffusers 0.42.1's fused processor for it leaves out the q/k norms, which is a bug and no variation.
@benign("qkv-fused-flux", "flux")
def qkv_fused_transformer(trial: Trial) -> None:
    trial.faulty.pipeline.transformer.fuse_qkv_projections()


# --- norms, rotary tables, layouts ----------------------------------------------------------------------------------------


@benign("rmsnorm-written-out", "flux")
@benign("rmsnorm-written-out-sd3", "sd3")
def rmsnorm(trial: Trial) -> None:
    for module in trial.faulty.pipeline.transformer.modules():
        if type(module).__name__ == "RMSNorm":
            module.forward = functools.partial(_rms, module)


def _rms(module, x):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + module.eps) * module.weight


@benign("groupnorm-in-fp64", "sd15")
def groupnorm(trial: Trial) -> None:
    """Statistics in double precision, the result in single: another kernel, not another dtype of the network."""
    for module in trial.faulty.pipeline.unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = functools.partial(_group, module)


def _group(module, x):
    weight, bias = module.weight.double(), module.bias.double()
    return nn.functional.group_norm(x.double(), module.num_groups, weight, bias, module.eps).to(x.dtype)


@benign("layernorm-written-out", "wan")
def layernorm(trial: Trial) -> None:
    for module in trial.faulty.pipeline.text_encoder.modules():
        if type(module).__name__.endswith("LayerNorm"):
            module.forward = functools.partial(_t5_norm, module)


def _t5_norm(module, x):
    return module.weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + module.variance_epsilon))


@benign("rope-fp32-instead-of-fp64", "flux")
def rope_fp32(trial: Trial) -> None:
    """As on devices without float64: tables from single precision frequencies."""
    rope = trial.faulty.pipeline.transformer.pos_embed

    def forward(ids):
        cos, sin = [], []
        for axis, width in enumerate(rope.axes_dim):
            frequencies = 1.0 / rope.theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
            phase = torch.outer(ids[:, axis].float(), frequencies)
            cos.append(phase.cos().repeat_interleave(2, 1))
            sin.append(phase.sin().repeat_interleave(2, 1))
        return torch.cat(cos, -1), torch.cat(sin, -1)

    rope.forward = forward


@benign("gelu-tanh-written-out", "flux")
def gelu(trial: Trial) -> None:
    for module in trial.faulty.pipeline.transformer.modules():
        if isinstance(module, nn.GELU) and module.approximate == "tanh":
            module.forward = lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@benign("vae-channels-last", "flux")
@benign("vae-channels-last-sd3", "sd3")
def vae_channels_last(trial: Trial) -> None:
    trial.faulty.pipeline.vae.to(memory_format=torch.channels_last)


@benign("unet-channels-last", "sd15_euler")
def unet_channels_last(trial: Trial) -> None:
    trial.faulty.pipeline.unet.to(memory_format=torch.channels_last)


class _Transposed(nn.Module):
    """A linear layer that stores its weight as (in, out), under other names."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.kernel = nn.Parameter(linear.weight.detach().T.contiguous(), requires_grad=False)
        self.offset = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x):
        y = x @ self.kernel
        return y if self.offset is None else y + self.offset


@benign("weights-converted-layout", "flux")
def converted(trial: Trial) -> None:
    """Feed-forward weights stored transposed and renamed, as other libraries do."""
    for module in trial.faulty.pipeline.transformer.modules():
        if type(module).__name__ == "FeedForward":
            module.net[2] = _Transposed(module.net[2])


# --- batches and threads --------------------------------------------------------------------------------------------------


def _row_by_row(trial: Trial, component: str) -> None:
    """The network sees the rows of a batch one after the other."""
    network = trial.faulty.pipeline.components[component]
    original = network.forward

    @functools.wraps(original)
    def forward(*args, **kwargs):
        batch = args[0].shape[0] if args else kwargs["hidden_states"].shape[0]
        rows = [original(*_row(args, i, batch), **_row(kwargs, i, batch)) for i in range(batch)]
        if isinstance(rows[0], tuple):
            return (torch.cat([row[0] for row in rows]), *rows[0][1:])
        rows[0].sample = torch.cat([row.sample for row in rows])
        return rows[0]

    network.forward = forward


def _row(values, i: int, batch: int):
    if isinstance(values, dict):
        return {key: _row(value, i, batch) for key, value in values.items()}
    if isinstance(values, (tuple, list)):
        return tuple(_row(value, i, batch) for value in values)
    if isinstance(values, torch.Tensor) and values.ndim and values.shape[0] == batch:
        return values[i : i + 1]
    return values


@benign("cfg-as-two-calls", "sd15")
@benign("cfg-as-two-calls-sdxl", "sdxl")
def two_calls(trial: Trial) -> None:
    _row_by_row(trial, "unet")


@benign("batch-of-two-row-by-row", "flux")
def batch_of_two(trial: Trial) -> None:
    for side in (trial.faulty, trial.healthy):
        side.call["prompt"] = ["two blue squares on black", "a red circle"]
    _row_by_row(trial, "transformer")


@benign("vae-slicing", "sd15_dpm")
def vae_slicing(trial: Trial) -> None:
    for side in (trial.faulty, trial.healthy):
        side.call |= {"num_images_per_prompt": 2}
    trial.faulty.pipeline.vae.enable_slicing()


@benign("vae-tiling-larger-than-the-picture", "flux")
@benign("vae-tiling-larger-than-the-video", "wan")
def vae_tiling(trial: Trial) -> None:
    trial.faulty.pipeline.vae.enable_tiling()


def around_call(trial: Trial, context) -> None:
    """The faulty pipeline's calls run inside `context()`."""
    kind = type(trial.faulty.pipeline)
    original = kind.__call__

    @functools.wraps(original)
    def call(self, *args, **kwargs):
        with context():
            return original(self, *args, **kwargs)

    trial.faulty.pipeline.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


class _Threads:
    def __enter__(self):
        self.before = torch.get_num_threads()
        torch.set_num_threads(2)

    def __exit__(self, *_):
        torch.set_num_threads(self.before)


class _Deterministic:
    def __enter__(self):
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *_):
        torch.use_deterministic_algorithms(False)


@benign("two-threads", "sd15")
@benign("two-threads-flux", "flux")
def threads(trial: Trial) -> None:
    for side in (trial.faulty, trial.healthy):
        side.call["num_inference_steps"] = 2  # threads that spin are slow on a busy machine
    around_call(trial, _Threads)


@benign("deterministic-algorithms", "sd15_euler")
def deterministic(trial: Trial) -> None:
    around_call(trial, _Deterministic)


@benign("inference-mode", "sd3")
def inference_mode(trial: Trial) -> None:
    around_call(trial, torch.inference_mode)
