"""Causes that act in the stage `scheduler_step`."""

from whydiff.causes.kinds.kind import CauseKind as K

KINDS: tuple[K, ...] = (
    K("solver-class", "scheduler_step", ("latents", "sigmas", "timesteps"), "another solver takes the steps", ("reference", "candidate")),
    K("order-at-final-step", "scheduler_step", ("latents",), "the last steps fall back to another order", ("reference", "candidate")),
    K("x0-clipping", "scheduler_step", ("latents",), "the estimate of the clean sample is clipped on one side, or to another range",
      ("reference", "candidate")),
    K("step-double-application", "scheduler_step", ("latents",), "a step is made twice, or left out", ("times", "step")),
    K("per-token-timestep", "scheduler_step", ("model_input/timestep",),
      "tokens that hold the clean image get timestep 0 on one side and the common timestep on the other", ("side", "tokens")),
    K("two-stage-start-parity", "scheduler_step", ("latents",), "the loop starts at the second half of a two-stage step",
      ("reference", "candidate")),
    K("multistep-start-not-at-zero", "scheduler_step", ("latents",),
      "a multistep solver that starts in mid-list takes its first step with a past it does not have", ("reference", "candidate")),
)  # fmt: skip
