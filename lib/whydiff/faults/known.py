"""The catalogued bugs: where each acts and where it is first seen, from shared/faults/catalogue.json, and why some are not injected."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Known:
    """A catalogued bug: the stage where it acts (its cause's stage), and the probe that shows it first."""

    stage: str
    probe: str


_SEEN_AT = {  # stage: probe: ids
    "parameters": {
        "initial_noise": "height-width-swapped",
        "timesteps": "zero-value-treated-as-missing",
        "noise_pred": "default-guidance-differs",
        "sigmas": "stale-reference-artifact",
        "model_input/added_cond_kwargs": "conditioning-arg-silently-ignored",
        "model_input/guidance": "saved-preset-drops-parameter",
    },
    "rng_noise": {
        "initial_noise": (
            "per-frame-seed-rule gpu-randn-hardware-dependent init-noise-sigma-missing rng-consumed-by-earlier-draw "
            "generator-list-shared-object batch-single-generator generator-device randn-dtype"
        ),
        "latents": "brownian-noise-batch-dependent per-step-noise-global-rng",
        "latent_model_input": "scale-model-input-missing",
    },
    "prompt_encoding": {
        "prompt_embeds": (
            "padded-rows-zeroed-wrongly text-encoder-rope-layout max-sequence-length long-prompt-truncated "
            "encoder-mask-passed-or-not padded-rows-not-zeroed encoder-batch-padding-dependence text-encoder-precision "
            "fp32-exempt-modules-lost template-prefix-not-cropped wrong-layer-list text-encoder-nonfinite "
            "vision-rotary-low-precision clip-skip hidden-state-index-base"
        ),
        "modules": "relative-bias-sharing",
        "input_ids": "prompt-cleaning prompt-template-dropped pad-token-collides-with-word double-bos pad-token-id",
        "pooled_prompt_embeds": "text-encoder-norm-eps",
        "negative_prompt_embeds": "chunk-count-pos-neg",
    },
    "schedule": {
        "model_input/timestep": "timestep-scale-1000 timestep-rounded-to-bf16",
        "sigmas": (
            "checkpoint-scheduler-config-ignored shift-constant sigma-grid-endpoints dynamic-shift-seq-len "
            "sigmas-built-in-low-precision shift-applied-twice penultimate-sigma"
        ),
        "latents": "zero-snr-with-epsilon duplicate-timestep-begin-index",
        "timesteps": "timestep-truncated-to-int lcm-uneven-spread steps-offset timesteps-not-shifted loop-count-off-by-one",
        "alphas_cumprod": "beta-schedule-name",
        "noise_pred_text": "expert-boundary",
        "initial_noise": "img2img-strength-meaning",
    },
    "guidance": {
        "model_input/guidance": "guidance-times-1000 guidance-tensor-none",
        "noise_pred": "cfg-formula-offset cfg-zero-star cfg-norm-missing cond-uncond-swapped dynamic-cfg-missing",
        "timesteps": "true-cfg-vs-embedded cfg-enable-threshold",
        "negative_prompt_embeds": "negative-zeros-vs-empty negative-image-dropped",
        "modules": "guidance-embedder-dropped",
        "model_input/pooled_projections": "pooled-order-swapped",
    },
    "model_forward": {
        "noise_pred_text": (
            "eval-mode-missing engine-fp16-nonfinite export-constant-folded adaln-shift-scale-swapped export-without-eval"
        ),
        "latents": "velocity-sign prediction-type",
        "modules": (
            "attention-mask-inverted attention-mask-dropped lora-lokr-alpha qk-norm-config gate-up-swapped "
            "lora-adaln-both-factors norm-eps autocast-fp32-device-dependent gelu-tanh-vs-exact lora-alpha-default "
            "rope-phase-low-precision fp8-input-scale-default missing-keys-nonstrict checkpoint-file-corrupt "
            "fused-norm-rounding-point downscale-freq-shift position-embedding-init modulation-low-precision "
            "attention-mask-added-as-bool dit-fp16-overflow rope-axis-split rope-complex-buffer-cast"
        ),
    },
    "scheduler_step": {
        "latents": (
            "step-double-application order-at-final-step solver-class x0-clipping two-stage-start-parity "
            "multistep-start-not-at-zero"
        ),
        "model_input/timestep": "per-token-timestep",
    },
    "latent_handling": {
        "vae_latents": (
            "vae-scaling-factor vae-scaling-missing vae-shift-missing latent-mean-std-missing latent-channel-order"
        ),
        "init_image": "vae-input-range",
        "initial_noise": "latent-transposed frame-count-rule",
        "latent_model_input": (
            "condition-mask-layout patch-pack-order condition-latent-scaled-twice first-frame-encoding-context"
        ),
        "decoded": "temporal-upsample-first-frame",
    },
    "vae": {
        "vae_latents": "vae-decode-noise quant-conv-missing",
        "decoded": "last-frames-corrupt tile-blend-neighbours groupnorm-per-tile vae-fp16-nan",
        "image_latents": "encoder-downsample-padding vae-cache-wrong-size posterior-sample-vs-mode",
        "modules": "decoder-upsample-mode",
    },
    "post_processing": {
        "image": "rgb-bgr video-range-tag uint8-truncation clamp-missing failure-masked-as-output watermark-added",
        "init_image": "center-crop-vs-stretch",
        "decoded": "nan-cast-to-black",
    },
    "caching_parallel": {
        "modules": (
            "sp-padding-unmasked parallel-config-not-propagated tp-norm-local-statistics offload-stream-race "
            "sp-condition-sharded sp-wrong-axis sp-concat-order kv-cache-not-refreshed ring-double-counts-replicated-text "
            "offload-corrupts-weights"
        ),
        "timesteps": "accelerator-on-one-side cache-spent-state",
        "initial_noise": "rng-not-synchronised",
    },
    "state_leakage": {
        "modules": "lora-unfuse-residual ambient-autocast",
        "negative_prompt_embeds": "stale-prompt-cache",
        "latents": "noise-sampler-reused",
        "model_input/control": "stale-control-tensor",
        "noise_pred_text": "quant-scale-overwritten",
        "decoded": "conv-cache-leak",
        "initial_noise": "shared-sample-object",
        "depends": "inplace-modification",
    },
}

KNOWN: dict[str, Known] = {
    id_: Known(stage, probe) for stage, probes in _SEEN_AT.items() for probe, ids in probes.items() for id_ in ids.split()
}

# Catalogue id -> why no pipeline here can carry it. What has an injector needs no entry.
NOT_CARRIED: dict[str, str] = {}
