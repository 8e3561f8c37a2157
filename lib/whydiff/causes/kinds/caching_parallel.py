"""Causes that act in the stage `caching_parallel`."""

from whydiff.causes.kinds.kind import CauseKind as K

MODULES, OPERATION = ("modules",), ("function", "variant", "departs")

KINDS: tuple[K, ...] = (
    K("shard-missing", "caching_parallel", ("*",), "a rank's part of a tensor is missing, or another's is there twice",
      ("axis", "shards", "missing", "repeated")),
    K("sp-padding-unmasked", "caching_parallel", MODULES, "padding added for a number of ranks is attended to", OPERATION),
    K("tp-norm-local-statistics", "caching_parallel", MODULES, "a norm takes its statistics from one rank's channels", OPERATION),
    K("sp-condition-sharded", "caching_parallel", MODULES, "positions are those of each rank's part, and not of the whole", ("parts",)),
    K("sp-wrong-axis", "caching_parallel", MODULES, "a table or a sequence is divided along another axis", ("parts", "axis")),
    K("sp-concat-order", "caching_parallel", MODULES, "text and image tokens are concatenated in the other order", OPERATION),
    K("ring-double-counts-replicated-text", "caching_parallel", MODULES, "text keys are counted once for each rank", OPERATION),
    K("offload-stream-race", "caching_parallel", MODULES, "a layer computes with another layer's weights", ("module",)),
    K("kv-cache-not-refreshed", "caching_parallel", MODULES, "an attention uses keys and values of an earlier step",
      ("side", "step", "of_step", "modules")),
    K("parallel-config-not-propagated", "caching_parallel", MODULES,
      "a module works on one rank's part of the sequence as if it were the whole", ("parts", "side"), ("sp-wrong-axis",)),
    K("accelerator-on-one-side", "caching_parallel", ("timesteps", "noise_pred"),
      "one side skips evaluations of its network and reuses predictions", ("side", "steps"), ("cache-spent-state",)),
)  # fmt: skip
