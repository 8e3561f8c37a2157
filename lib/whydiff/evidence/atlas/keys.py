"""The names under which the atlas keeps a default: ours, whatever a framework calls it, with type, unit and meaning."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from whydiff.formulas.schedule import GRIDS

DTYPES = ("float16", "bfloat16", "float32", "int64")
VARIABLES = ("height", "width", "num_inference_steps")


@dataclasses.dataclass(frozen=True)
class Key:
    """One parameter. `kind`: integer, number, boolean, text, numbers (a list), dtype (as torch spells it), formula (in
    `VARIABLES`). `choices`: the only values, where they are few. `group`: what it is about."""

    name: str
    group: str
    kind: str
    meaning: str
    unit: str = ""
    choices: tuple[str, ...] = ()


_TABLE = (
    Key("height", "size", "integer", "of the picture", "pixels"),
    Key("width", "size", "integer", "of the picture", "pixels"),
    Key("num_frames", "size", "integer", "of the video; 1 is a picture", "frames"),
    Key("fps", "size", "number", "frames shown per second", "frames/s"),
    Key("size_multiple_of", "size", "integer", "height and width are multiples of it", "pixels"),
    Key("num_inference_steps", "steps", "integer", "denoising steps", "steps"),
    Key("guidance_scale", "guidance", "number", "as the diffusers pipeline of the model means it: the embedded scale of models "
        "that embed one, classifier-free guidance of the others"),
    Key("guidance_scale_2", "guidance", "number", "of the low-noise expert"),
    Key("true_cfg_scale", "guidance", "number", "classifier-free guidance beside an embedded scale"),
    Key("cfg_above", "guidance", "number", "classifier-free guidance runs where its scale is above this"),
    Key("guidance_rescale", "guidance", "number", "share of the rescaling of Lin et al. 2023 (arXiv 2305.08891), 0 to 1"),
    Key("cfg_normalization", "guidance", "boolean", "the guided prediction is brought back to the norm of the conditional one"),
    Key("cfg_truncation", "guidance", "number", "guidance stops where the normalised time passes this, 0 to 1"),
    Key("guidance_embedded", "guidance", "boolean", "the network receives the scale as an input"),
    Key("guidance_scale_multiplier", "guidance", "number", "what the embedded scale is multiplied by before it is embedded"),
    Key("prompt", "prompt", "text", "where none is given"),
    Key("negative_prompt", "prompt", "text", "where none is given"),
    Key("max_sequence_length", "prompt", "integer", "of the (last) text encoder", "tokens"),
    Key("clip_skip", "prompt", "integer", "last layers of CLIP left out", "layers"),
    Key("prompt_cleaning", "prompt", "text", "what is done to the prompt first", choices=("none", "ftfy", "ftfy and html")),
    Key("text_mask_in_encoder", "prompt", "boolean", "padding is masked inside the (last) text encoder"),
    Key("text_mask_in_network", "prompt", "boolean", "padding is masked inside the denoising network"),
    Key("text_encoder_class", "prompt", "text", "the class that loads the text encoder"),
    Key("seed", "noise", "integer", "where none is given"),
    Key("generator", "noise", "text", "whose stream the noise comes from", choices=("global", "per call", "per frame")),
    Key("generator_device", "noise", "text", "where the noise is drawn", choices=("cpu", "cuda")),
    Key("noise_dtype", "noise", "dtype", "in which the noise is drawn"),
    Key("scheduler", "schedule", "text", "class of the scheduler that runs"),
    Key("sigma_grid", "schedule", "text", "the grid before it is shifted, as `whydiff schedule --grid` names it",
        choices=tuple(GRIDS)),
    Key("sigmas", "schedule", "numbers", "the whole list, where it is fixed", "sigma"),
    Key("flow_shift", "schedule", "number", "static shift of the sigmas; null where a dynamic one takes its place"),
    Key("mu", "schedule", "number", "logarithm of the shift, where the framework configures that"),
    Key("use_dynamic_shifting", "schedule", "boolean", "the shift follows from the number of tokens"),
    Key("image_seq_len", "schedule", "formula", "the number of tokens that the dynamic shift is computed from", "tokens"),
    Key("base_image_seq_len", "schedule", "integer", "where the dynamic mu is base_shift", "tokens"),
    Key("max_image_seq_len", "schedule", "integer", "where the dynamic mu is max_shift", "tokens"),
    Key("base_shift", "schedule", "number", "mu at base_image_seq_len"),
    Key("max_shift", "schedule", "number", "mu at max_image_seq_len"),
    Key("time_shift_type", "schedule", "text", "how mu shifts", choices=("exponential", "linear")),
    Key("shift_terminal", "schedule", "number", "the grid is stretched so that its last sigma is this", "sigma"),
    Key("invert_sigmas", "schedule", "boolean", "the model counts from noise 0 to 1"),
    Key("boundary_ratio", "schedule", "number", "the experts change at this share of the training timesteps"),
    Key("num_train_timesteps", "schedule", "integer", "timestep of sigma 1", "timesteps"),
    Key("beta_schedule", "schedule", "text", "how the betas are spaced"),
    Key("beta_start", "schedule", "number", "the first beta"),
    Key("beta_end", "schedule", "number", "the last beta"),
    Key("rescale_betas_zero_snr", "schedule", "boolean", "the last training step is pure noise"),
    Key("timestep_spacing", "schedule", "text", "which of the training timesteps are taken"),
    Key("snr_shift_scale", "schedule", "number", "the signal-to-noise ratio is shifted by this"),
    Key("timestep_scale", "timestep", "number", "what the network's time embedding receives at sigma 1"),
    Key("timestep_dtype", "timestep", "dtype", "in which the timestep reaches the network"),
    Key("transformer_dtype", "precision", "dtype", "of the denoising network"),
    Key("text_encoder_dtype", "precision", "dtype", "of the (first) text encoder"),
    Key("text_encoder_2_dtype", "precision", "dtype", "of the second text encoder"),
    Key("vae_dtype", "precision", "dtype", "of the VAE"),
    Key("time_embedding_dtype", "precision", "dtype", "of the time embedding's MLP"),
    Key("rope", "network", "boolean", "rotary position embeddings are applied"),
    Key("text_embedder_activation", "network", "text", "between the two layers of the text embedder"),
    Key("norm_class", "network", "text", "of the modulated norms in a block"),
    Key("norm_eps", "network", "number", "of the RMS norms; null is the machine epsilon of float32"),
    Key("use_kv_cache", "network", "boolean", "keys and values of earlier frames are kept"),
    Key("num_layers", "network", "integer", "blocks of the network", "layers"),
    Key("hidden_size", "network", "integer", "width of the network", "channels"),
    Key("num_attention_heads", "network", "integer", "of each block", "heads"),
    Key("num_key_value_heads", "network", "integer", "of each block", "heads"),
    Key("tokens_per_frame", "network", "integer", "tokens of one video frame", "tokens"),
    Key("local_window", "network", "integer", "frames that a local layer sees", "frames"),
    Key("global_window", "network", "integer", "frames that a global layer spans", "frames"),
    Key("global_attention_period", "network", "integer", "every so many layers one is global", "layers"),
    Key("global_attention_dilation", "network", "integer", "a global layer keeps one frame of so many", "frames"),
    Key("latent_channels", "vae", "integer", "of the latents", "channels"),
    Key("scaling_factor", "vae", "number", "what the encoder's latents are multiplied by"),
    Key("shift_factor", "vae", "number", "what is taken off the encoder's latents first"),
    Key("latents_mean", "vae", "numbers", "taken off each channel"),
    Key("latents_std", "vae", "numbers", "each channel is divided by it"),
    Key("force_upcast", "vae", "boolean", "the VAE runs in float32 whatever its weights are"),
    Key("vae_scale_factor", "vae", "integer", "pixels along one side of a latent", "pixels"),
    Key("vae_scale_factor_temporal", "vae", "integer", "frames in one latent frame", "frames"),
)  # fmt: skip

KEYS = {key.name: key for key in _TABLE}


def complaint(name: str, value: Any) -> str:
    """What is wrong with a value of the key `name`, which is known; empty if nothing is. null always means "None"."""
    key = KEYS[name]
    if value is None:
        return ""
    if not _FITS[key.kind](value):
        return f"{value!r} is not {'a' if key.kind[0] not in 'aeiou' else 'an'} {key.kind}"
    if key.choices and value not in key.choices:
        return f"{value!r} is none of {', '.join(key.choices)}"
    return ""


def tokens(formula: str, height: int, width: int, num_inference_steps: int = 1) -> float:
    """The value of a formula for one size. Raises ValueError for one that is more than arithmetic in `VARIABLES`."""
    _parsed(formula)
    values = {"height": height, "width": width, "num_inference_steps": num_inference_steps}
    return eval(formula, {"__builtins__": {}}, values)  # noqa: S307  (parsed above: numbers, names and + - * / // only)


def equal(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a key mean the same; formulas are compared at sizes that every framework allows (multiples of 16)."""
    if KEYS[name].kind == "formula" and _is_formula(one) and _is_formula(other):
        return all(tokens(one, *size) == tokens(other, *size) for size in ((720, 1280), (1024, 1024), (512, 768)))
    return one == other


def _parsed(formula: str) -> None:
    allowed = (ast.Expression, ast.BinOp, ast.Name, ast.Load, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv)
    try:
        nodes = list(ast.walk(ast.parse(formula, mode="eval")))
    except SyntaxError:
        raise ValueError(f"{formula!r} is not a formula") from None
    for node in nodes:
        if not isinstance(node, allowed) or (isinstance(node, ast.Name) and node.id not in VARIABLES):
            raise ValueError(f"{formula!r} is more than arithmetic in {', '.join(VARIABLES)}")


def _is_formula(value: Any) -> bool:
    try:
        _parsed(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_FITS = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "numbers": lambda value: isinstance(value, list) and bool(value) and all(map(_is_number, value)),
    "dtype": lambda value: value in DTYPES,
    "formula": _is_formula,
}
