"""The causes whydiff can name, in pipeline order. Ids are only ever added."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CauseKind:
    """One line of `whydiff causes`. `parameters` are the keys of its `relation`; `equivalent` are ids that tensors
    cannot tell apart from it."""

    id: str
    stage: str
    probes: tuple[str, ...]
    meaning: str
    parameters: tuple[str, ...] = ()
    equivalent: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {k: list(getattr(self, k)) for k in ("probes", "parameters", "equivalent")}


_K = CauseKind
CAUSES: tuple[CauseKind, ...] = (
    _K("height-width-swapped", "parameters", ("settings", "initial_noise"),
       "height and width are passed, or read, in the wrong order", ("height", "width")),
    _K("image-size", "parameters", ("settings", "initial_noise"), "another height or width was asked for", ("height", "width")),
    _K("num-frames", "parameters", ("settings", "initial_noise"), "another number of frames was asked for", ("reference", "candidate")),
    _K("batch-size", "parameters", ("settings", "initial_noise"), "another number of pictures was asked for", ("reference", "candidate")),
    _K("seed", "rng_noise", ("initial_noise",), "the noise was drawn from another seed", ("reference", "candidate")),
    _K("generator-device", "rng_noise", ("initial_noise",),
       "the noise was drawn by another device's generator (CPU against CUDA)", ("reference", "candidate")),
    _K("randn-dtype", "rng_noise", ("initial_noise",), "the noise was drawn in another dtype, or rounded to it",
       ("reference", "candidate")),
    _K("rng-consumed-by-earlier-draw", "rng_noise", ("initial_noise",),
       "other draws used up the generator before the initial noise", ("skipped",)),
    _K("batch-single-generator", "rng_noise", ("initial_noise",),
       "the noise of a batch comes from one generator on one side and from one for each item on the other", ("reference", "candidate")),
    _K("init-noise-sigma-missing", "rng_noise", ("initial_noise", "initial_latents"),
       "the initial noise is not scaled by the scheduler's first sigma, or by another factor", ("factor",)),
    _K("latent-transposed", "latent_handling", ("initial_noise", "initial_latents"),
       "height and width (or another pair of axes) of the latents are exchanged", ("layout",)),
    _K("patch-pack-order", "latent_handling", ("initial_noise", "initial_latents"),
       "2x2 patches are packed into tokens in another order", ("layout",)),
    _K("prompt", "prompt_encoding", ("input_ids",), "another prompt was encoded", ("reference", "candidate")),
    _K("max-sequence-length", "prompt_encoding", ("input_ids", "prompt_embeds"),
       "the prompt is padded or truncated to another length", ("reference", "candidate")),
    _K("encoder-mask-passed-or-not", "prompt_encoding", ("attention_mask", "prompt_embeds"),
       "one text encoder masks its padding, the other attends to it", ("reference", "candidate")),
    _K("num-inference-steps", "schedule", ("sigmas", "timesteps"), "another number of steps", ("reference", "candidate")),
    _K("dynamic-shift-seq-len", "schedule", ("sigmas",),
       "mu of the resolution-dependent shift was computed from another number of tokens",
       ("mu_reference", "mu_candidate", "tokens", "factor"), ("shift-constant",)),
    _K("shift-constant", "schedule", ("sigmas",), "the schedule was shifted by another constant",
       ("reference", "candidate"), ("shift-applied-twice",)),
    _K("sigma-grid-endpoints", "schedule", ("sigmas",), "the grid of sigmas ends (or begins) elsewhere before the shift",
       ("reference", "candidate")),
    _K("timestep-truncated-to-int", "schedule", ("timesteps", "model_input/timestep"), "timesteps are cut to integers on one side"),
    _K("timestep-rounded-to-bf16", "schedule", ("timesteps", "model_input/timestep"), "timesteps are rounded to bfloat16 on one side"),
    _K("timestep-scale-1000", "schedule", ("model_input/timestep",),
       "the timestep reaches the network 1000 times too large or too small", ("factor",)),
    _K("guidance-scale", "guidance", ("model_input/guidance", "noise_pred"), "another guidance scale", ("reference", "candidate")),
    _K("guidance-times-1000", "guidance", ("model_input/guidance",),
       "the guidance reaches the network 1000 times too large or too small", ("factor",)),
    _K("cond-uncond-swapped", "guidance", ("noise_pred",), "the conditional and unconditional predictions are exchanged"),
    _K("rope-not-applied", "model_forward", ("noise_pred_text",), "rotary position embeddings are not applied"),
    _K("velocity-sign", "model_forward", ("noise_pred_text", "noise_pred", "latents"), "the sign of the prediction is reversed"),
    _K("vae-scaling-factor", "latent_handling", ("vae_latents",), "latents are scaled by another factor before decoding",
       ("reference", "candidate"), ("vae-scaling-missing",)),
    _K("vae-scaling-missing", "latent_handling", ("vae_latents",), "latents are not scaled back before decoding",
       ("reference", "candidate"), ("vae-scaling-factor",)),
    _K("vae-shift-missing", "latent_handling", ("vae_latents",), "the VAE's shift_factor is not added before decoding",
       ("reference", "candidate")),
    _K("rgb-bgr", "post_processing", ("image",), "the colour channels are in another order", ("permutation",)),
    _K("lossy-image-format", "post_processing", ("image",), "one side's image was saved in a format that loses detail (JPEG, WebP)",
       ("side", "format")),
    _K("undeclared-dtype", "model_forward", ("any",),
       "one side computes in a lower precision than the other, and does not say so", ("reference", "candidate"),
       ("text-encoder-precision",)),
)  # fmt: skip

BY_ID = {kind.id: kind for kind in CAUSES}
