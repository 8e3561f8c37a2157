"""Causes that act in the stage `state_leakage`."""

from whydiff.causes.kinds.kind import CauseKind as K

_KEPT = ("inplace-modification", "shared-sample-object")

KINDS: tuple[K, ...] = (
    K("cache-spent-state", "state_leakage", ("timesteps",),
      "a cache of earlier requests changes how often the network is evaluated", ("side", "first", "again")),
    K("stale-prompt-cache", "state_leakage", ("prompt_embeds", "negative_prompt_embeds"),
      "embeddings of an earlier request are used again", ("side", "probe")),
    K("stale-control-tensor", "state_leakage", ("model_input",), "an input of the network is that of an earlier request",
      ("side", "probe")),
    K("shared-sample-object", "state_leakage", ("initial_noise", "initial_latents"),
      "a request starts from a tensor that an earlier request changed", ("side", "place"), ("inplace-modification",)),
    K("inplace-modification", "state_leakage", ("any",), "a tensor that is used again is written to",
      ("side",), ("shared-sample-object",)),
    K("noise-sampler-reused", "state_leakage", ("step_noise", "latents"),
      "the scheduler's stream of noise goes on from request to request", ("side",)),
    K("conv-cache-leak", "state_leakage", ("decoded",), "the decoder's feature cache survives from request to request", ("side",)),
    K("lora-unfuse-residual", "state_leakage", ("modules",),
      "weights are slightly different after a run, as after fusing and un-fusing an adapter", ("side", "names", "relative_change"), _KEPT[:1]),
    K("quant-scale-overwritten", "state_leakage", ("modules",), "running overwrites quantisation scales",
      ("side", "names", "relative_change"), _KEPT[:1]),
    K("offload-corrupts-weights", "state_leakage", ("modules",), "weights are damaged while running",
      ("side", "names", "relative_change"), _KEPT[:1]),
    K("ambient-autocast", "state_leakage", ("any",), "one side runs inside an autocast context", ("side", "dtype"),
      ("undeclared-dtype",)),
)  # fmt: skip
