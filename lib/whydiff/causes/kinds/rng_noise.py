"""Causes that act in the stage `rng_noise`."""

from whydiff.causes.kinds.kind import CauseKind as K

KINDS: tuple[K, ...] = (
    K("seed", "rng_noise", ("initial_noise",), "the noise was drawn from another seed", ("reference", "candidate")),
    K("generator-device", "rng_noise", ("initial_noise",),
      "the noise was drawn by another device's generator (CPU against CUDA)", ("reference", "candidate")),
    K("randn-dtype", "rng_noise", ("initial_noise",), "the noise was drawn in another dtype, or rounded to it",
      ("reference", "candidate")),
    K("rng-consumed-by-earlier-draw", "rng_noise", ("initial_noise",),
      "other draws used up the generator before the initial noise", ("reference", "candidate"), ("generator-list-shared-object",)),
    K("generator-list-shared-object", "rng_noise", ("initial_noise",),
      "a generator stands twice in a list, so that an item's noise is a later draw of its seed", ("reference", "candidate"),
      ("rng-consumed-by-earlier-draw",)),
    K("per-frame-seed-rule", "rng_noise", ("initial_noise", "initial_latents"),
      "frames (or blocks) are seeded by another rule", ("axis", "reference", "candidate"), ("rng-not-synchronised",)),
    K("gpu-randn-hardware-dependent", "rng_noise", ("initial_noise",), "GPUs with other numbers of multiprocessors drew the noise",
      ("prefix",)),
    K("per-step-noise-global-rng", "rng_noise", ("step_noise", "latents"),
      "noise of the scheduler's steps comes from the global generator", ("side",)),
    K("brownian-noise-batch-dependent", "rng_noise", ("step_noise", "latents"),
      "noise of the scheduler's steps is drawn for the whole batch, so it depends on its size", ("reference", "candidate"),
      ("batch-single-generator",)),
    K("batch-single-generator", "rng_noise", ("initial_noise",),
      "the noise of a batch comes from one generator on one side and from one for each item on the other", ("reference", "candidate")),
    K("init-noise-sigma-missing", "rng_noise", ("initial_noise", "initial_latents"),
      "the initial noise is not scaled by the scheduler's first sigma, or by another factor", ("factor",)),
    K("scale-model-input-missing", "rng_noise", ("latent_model_input",),
      "the network's input is not divided by sqrt(sigma^2 + 1) on one side", ("side",)),
)  # fmt: skip
