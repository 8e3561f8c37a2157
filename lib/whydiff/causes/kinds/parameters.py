"""Causes that act in the stage `parameters`."""

from whydiff.causes.kinds.kind import CauseKind as K

KINDS: tuple[K, ...] = (
    K("height-width-swapped", "parameters", ("settings", "initial_noise"),
      "height and width are passed, or read, in the wrong order", ("height", "width")),
    K("image-size", "parameters", ("settings", "initial_noise"), "another height or width was asked for", ("height", "width")),
    K("num-frames", "parameters", ("settings", "initial_noise"), "another number of frames was asked for", ("reference", "candidate")),
    K("zero-value-treated-as-missing", "parameters", ("model_input/guidance", "noise_pred"), "an explicit 0 was replaced by a default",
      ("reference", "candidate"), ("guidance-scale", "default-guidance-differs")),
    K("batch-size", "parameters", ("settings", "initial_noise"), "another number of pictures was asked for", ("reference", "candidate")),
)  # fmt: skip
