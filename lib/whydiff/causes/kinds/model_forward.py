"""Causes that act in the stage `model_forward`."""

from whydiff.causes.kinds.kind import CauseKind as K

MODULES, STATE, OPERATION = ("modules",), ("entry", "reference", "candidate"), ("function", "variant", "departs")

KINDS: tuple[K, ...] = (
    K("rope-not-applied", "model_forward", ("noise_pred_text",), "rotary position embeddings are not applied"),
    K("velocity-sign", "model_forward", ("noise_pred_text", "noise_pred", "latents"), "the sign of the prediction is reversed"),
    K("undeclared-dtype", "model_forward", ("any",),
      "one side computes in a lower precision than the other, and does not say so", ("reference", "candidate"),
      ("text-encoder-precision",)),
    K("prediction-type", "model_forward", ("latents",), "the network's output is taken for another quantity (epsilon, v, sample, flow)",
      ("reference", "candidate")),
    K("eval-mode-missing", "model_forward", MODULES, "a module is in training mode, so that dropout is at work", STATE, ("export-without-eval",)),
    K("norm-eps", "model_forward", MODULES, "a norm has another epsilon", STATE, ("text-encoder-norm-eps",)),
    K("gelu-tanh-vs-exact", "model_forward", MODULES, "GELU in its tanh form on one side and exact on the other", STATE),
    K("downscale-freq-shift", "model_forward", MODULES, "the frequencies of the timestep embedding are spaced differently", STATE),
    K("rope-axis-split", "model_forward", MODULES, "the head dimension is divided between the axes of positions differently", STATE),
    K("rope-phase-low-precision", "model_forward", MODULES, "frequencies or phases of rotary embeddings are computed in 16 bits", STATE,
      ("ambient-autocast",)),
    K("rope-complex-buffer-cast", "model_forward", MODULES, "a complex table of rotations lost its imaginary part in a cast", STATE),
    K("position-embedding-init", "model_forward", MODULES, "a table of position embeddings is built differently", STATE),
    K("adaln-shift-scale-swapped", "model_forward", MODULES, "shift and scale of a modulated norm are taken in another order", STATE),
    K("gate-up-swapped", "model_forward", MODULES, "gate and value of a gated MLP are exchanged", STATE),
    K("checkpoint-file-corrupt", "model_forward", MODULES, "some values of a weight are not those of the file", STATE,
      ("offload-corrupts-weights",)),
    K("missing-keys-nonstrict", "model_forward", MODULES, "a weight was not loaded: it is as a layer starts, or unrelated", STATE,
      ("checkpoint-file-corrupt",)),
    K("lora-alpha-default", "model_forward", MODULES, "an adapter is added with another scale", STATE),
    K("lora-lokr-alpha", "model_forward", MODULES, "a Kronecker adapter is added with another scale", STATE, ("lora-alpha-default",)),
    K("lora-adaln-both-factors", "model_forward", MODULES, "both factors of an adapter of a modulation had their halves exchanged", STATE),
    K("qk-norm-config", "model_forward", MODULES, "queries or keys are normalised on one side only", ("module", "side")),
    K("attention-mask-dropped", "model_forward", MODULES, "attention ignores its mask", OPERATION, ("sp-padding-unmasked",)),
    K("attention-mask-inverted", "model_forward", MODULES, "attention excludes what its mask keeps", OPERATION),
    K("attention-mask-added-as-bool", "model_forward", MODULES, "a boolean mask is added to the scores as 1 and 0", OPERATION),
    K("modulation-low-precision", "model_forward", MODULES, "shift, scale and gate are computed in 16 bits", OPERATION,
      ("autocast-fp32-device-dependent",)),
    K("fused-norm-rounding-point", "model_forward", MODULES, "a norm is rounded to 16 bits before it is modulated", OPERATION),
    K("dit-fp16-overflow", "model_forward", MODULES, "values exceed what float16 holds", ("side", "count"), ("engine-fp16-nonfinite",)),
    K("export-constant-folded", "model_forward", ("noise_pred_text", "noise_pred_uncond"),
      "one side's network does not react to an input that the other's reacts to", ("side", "argument", "value")),
)  # fmt: skip
