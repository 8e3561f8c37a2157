"""The causes whydiff can name, in pipeline order. Ids are only ever added, each to the file of its stage in `kinds/`."""

from __future__ import annotations

from whydiff.causes.kinds import (
    caching_parallel,
    guidance,
    latent_handling,
    model_forward,
    parameters,
    post_processing,
    prompt_encoding,
    rng_noise,
    schedule,
    scheduler_step,
    state_leakage,
    vae,
)
from whydiff.causes.kinds.kind import CauseKind

CAUSES: tuple[CauseKind, ...] = (
    *parameters.KINDS, *rng_noise.KINDS, *prompt_encoding.KINDS, *schedule.KINDS, *model_forward.KINDS, *guidance.KINDS,
    *scheduler_step.KINDS, *latent_handling.KINDS, *vae.KINDS, *post_processing.KINDS, *caching_parallel.KINDS,
    *state_leakage.KINDS,
)  # fmt: skip

BY_ID = {kind.id: kind for kind in CAUSES}
