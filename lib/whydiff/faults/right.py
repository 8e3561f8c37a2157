"""Which answers count as right for each planted fault.

Always right: the catalogue's own id as the cause (also where it stands in a named cause's `equivalent`), seen first at the
catalogue's probe. An entry here says what is right besides, with the reason.
"""

from __future__ import annotations

import dataclasses
import hashlib

from whydiff.faults.known import KNOWN


@dataclasses.dataclass(frozen=True)
class Right:
    """`causes`: further ids that count. `reference_causes`: those that count when the reference carries the fault (what
    the reference lacks, the candidate has too much). `stages` and `probes`: further places of the first divergence; a
    probe may be given without suffix. `sides`: which sides may carry it, where not both can."""

    causes: tuple[str, ...] = ()
    reference_causes: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    sides: tuple[str, ...] = ("reference", "candidate")

    def ids(self, fault: str, side: str) -> frozenset[str]:
        """The ids that count when `side` carries the fault."""
        return frozenset((fault, *self.causes, *(self.reference_causes if side == "reference" else ())))


RIGHT: dict[str, Right] = {
    # parameters: what a lost value does to the tensors (contract: a bug that is a history is named by what is visible)
    "height-width-swapped": Right(probes=("settings",)),
    "default-guidance-differs": Right(causes=("guidance-scale",), probes=("model_input/guidance",)),
    "saved-preset-drops-parameter": Right(causes=("guidance-scale",), probes=("noise_pred",)),
    # asked for 0, one side guides and the other does not
    "zero-value-treated-as-missing": Right(causes=("guidance-scale", "cfg-enable-threshold"),
                                           probes=("model_input/guidance", "noise_pred")),
    # the old schedule had another shift, or what is the scheduler's own default
    "stale-reference-artifact": Right(causes=("shift-constant", "checkpoint-scheduler-config-ignored")),
    # rng_noise
    "init-noise-sigma-missing": Right(probes=("initial_latents",)),
    "brownian-noise-batch-dependent": Right(probes=("step_noise",)),
    "per-step-noise-global-rng": Right(probes=("step_noise",)),
    # schedule: Flux without its config has a static shift; in sigma space the first level scales the initial latents
    "checkpoint-scheduler-config-ignored": Right(causes=("shift-constant",), probes=("timesteps", "alphas_cumprod", "initial_latents")),
    "beta-schedule-name": Right(probes=("sigmas", "initial_latents")),
    "steps-offset": Right(probes=("initial_latents",)),
    "penultimate-sigma": Right(probes=("initial_latents",)),
    "timesteps-not-shifted": Right(probes=("sigmas",)),  # the reverse: timesteps are shifted, sigmas are not
    "zero-snr-with-epsilon": Right(probes=("alphas_cumprod",)),
    "shift-applied-twice": Right(causes=("shift-constant",)),  # a static shift s twice is the static shift s squared
    "img2img-strength-meaning": Right(probes=("initial_latents", "timesteps")),
    # the lists are equal: without its last step the loop is shorter, without its first every step has the next one's level
    "loop-count-off-by-one": Right(probes=("model_input/timestep", "latent_model_input", "vae_latents")),
    # guidance
    "cfg-formula-offset": Right(causes=("guidance-scale",)),  # the catalogue: a convention of the scale, s + 1
    "cfg-enable-threshold": Right(probes=("noise_pred",)),
    "true-cfg-vs-embedded": Right(probes=("model_input/guidance", "noise_pred")),
    "guidance-tensor-none": Right(causes=("guidance-embedder-dropped",), probes=("noise_pred_text",)),
    "guidance-embedder-dropped": Right(causes=("guidance-tensor-none",), probes=("model_input/guidance",)),
    "pooled-order-swapped": Right(probes=("model_input/added_cond_kwargs",)),
    "negative-image-dropped": Right(probes=("input_ids", "model_input/encoder_hidden_states_image")),
    # an encoder in half precision that nobody declared is a cast, whatever it does to the values
    "text-encoder-precision": Right(causes=("undeclared-dtype",)),
    "text-encoder-nonfinite": Right(causes=("undeclared-dtype",)),
    "fp32-exempt-modules-lost": Right(causes=("undeclared-dtype",)),
    # the batch's padding shows because the encoder gets no mask: with the other side's mask both agree
    "encoder-batch-padding-dependence": Right(causes=("encoder-mask-passed-or-not",), probes=("input_ids", "attention_mask")),
    # prompt_encoding: the mask is itself a probe, and comes before the embeddings that it changes
    "encoder-mask-passed-or-not": Right(probes=("attention_mask",)),
    "max-sequence-length": Right(probes=("input_ids", "attention_mask")),
    "long-prompt-truncated": Right(causes=("max-sequence-length",), probes=("input_ids",)),
    # mirrored: what the reference should do and does not is, seen from the reference, what the candidate does too much
    "padded-rows-zeroed-wrongly": Right(reference_causes=("padded-rows-not-zeroed",)),
    "padded-rows-not-zeroed": Right(reference_causes=("padded-rows-zeroed-wrongly",)),
    # model_forward: a module left in training mode drops out, whether it was exported so or not
    "eval-mode-missing": Right(causes=("export-without-eval",)),
    "export-without-eval": Right(causes=("eval-mode-missing",)),
    # the sign is lost behind the network or inside it
    "velocity-sign": Right(probes=("noise_pred_text", "noise_pred")),
    # infinities from fp16, whichever kernel makes them; where the weights lie there in fp16, that is the cast
    "engine-fp16-nonfinite": Right(causes=("dit-fp16-overflow",)),
    "dit-fp16-overflow": Right(causes=("engine-fp16-nonfinite", "undeclared-dtype")),
    # one block in bf16, for one reason or the other
    "autocast-fp32-device-dependent": Right(causes=("modulation-low-precision", "undeclared-dtype")),
    "modulation-low-precision": Right(causes=("autocast-fp32-device-dependent", "undeclared-dtype")),
    # scheduler_step: with KDPM2 the place between two halves has a sigma of its own, at which the picture gets its noise
    "two-stage-start-parity": Right(probes=("initial_latents", "model_input/timestep")),
    # latent_handling: what the loop starts from, or is conditioned on, is recorded before the network's input
    "latent-transposed": Right(probes=("initial_latents",)),
    "patch-pack-order": Right(probes=("initial_latents",)),
    "frame-count-rule": Right(probes=("initial_latents",)),
    "condition-mask-layout": Right(probes=("image_latents", "mask")),
    "condition-latent-scaled-twice": Right(probes=("image_latents",)),
    "first-frame-encoding-context": Right(probes=("init_image", "image_latents")),  # the encoder is given one frame
    "temporal-upsample-first-frame": Right(probes=("modules",)),
    # vae: the 1x1 convolutions lie inside decode and encode
    "quant-conv-missing": Right(probes=("decoded", "modules", "image_latents")),
    "encoder-downsample-padding": Right(probes=("modules",)),
    "groupnorm-per-tile": Right(probes=("modules",)),
    "vae-fp16-nan": Right(causes=("undeclared-dtype",), probes=("modules",)),  # the decoder's weights lie there in fp16
    # the draw that one side does not make also moves the noise that comes after it
    "posterior-sample-vs-mode": Right(causes=("rng-consumed-by-earlier-draw",)),
    # what is not cleared starts the next video, for one reason or the other
    "vae-cache-wrong-size": Right(causes=("conv-cache-leak",), probes=("decoded",)),
    "conv-cache-leak": Right(causes=("vae-cache-wrong-size",)),
    # post_processing: the NaN is put into what the decoder receives
    "nan-cast-to-black": Right(probes=("vae_latents",)),
    # caching_parallel: a skipped call shows in what the network gives at that step
    "accelerator-on-one-side": Right(probes=("noise_pred_text",)),
    "cache-spent-state": Right(probes=("noise_pred_text",)),
    "offload-stream-race": Right(stages=("state_leakage",)),  # one side differs from itself
    "rng-not-synchronised": Right(probes=("initial_latents",)),
    # state_leakage: a history is named by what is visible
    "stale-prompt-cache": Right(causes=("prompt",), probes=("negative_pooled_prompt_embeds",)),
    "stale-control-tensor": Right(
        probes=("init_image", "model_input/down_block_additional_residuals", "model_input/mid_block_additional_residual")),
    "noise-sampler-reused": Right(probes=("step_noise",)),
    "ambient-autocast": Right(causes=("undeclared-dtype", "text-encoder-precision"), probes=("prompt_embeds",)),
    # the sampler writes into the sample that was handed out: the same in tensors
    "shared-sample-object": Right(causes=("inplace-modification",), probes=("initial_latents",)),
    "inplace-modification": Right(causes=("shared-sample-object",)),
}


def right_of(fault: str) -> Right:
    return RIGHT.get(fault, Right())


def half(fault: str) -> str:
    """Which half of the catalogue a fault belongs to: "A" is for development, "B" is only reported."""
    return "AB"[hashlib.sha256(fault.encode()).digest()[0] % 2]


# Probes of one kind: which of them differs first depends on the host (walked: unconditional before conditional).
_KIN = (
    frozenset({"noise_pred_text", "noise_pred_uncond", "modules"}),
    frozenset({"prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds"}),
)
_MODULES_SHOW_AT = {"prompt_encoding": "prompt_embeds", "vae": "decoded"}


def probes_of(fault: str) -> frozenset[str]:
    """The probes at which the first divergence is right."""
    known, right = KNOWN.get(fault), right_of(fault)
    first = [] if known is None else [known.probe]
    if known is not None and known.probe == "modules":
        first.append(_MODULES_SHOW_AT.get(known.stage, "noise_pred_text"))
    found = {*first, *right.probes}
    for kin in _KIN:
        if found & kin - {"negative_prompt_embeds"}:
            found |= kin
    return frozenset(found)
