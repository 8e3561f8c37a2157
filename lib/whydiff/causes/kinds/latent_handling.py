"""Causes that act in the stage `latent_handling`."""

from whydiff.causes.kinds.kind import CauseKind as K

KINDS: tuple[K, ...] = (
    K("latent-transposed", "latent_handling", ("initial_noise", "initial_latents"),
      "height and width (or another pair of axes) of the latents are exchanged", ("layout",)),
    K("patch-pack-order", "latent_handling", ("initial_noise", "initial_latents"),
      "2x2 patches are packed into tokens in another order", ("layout",)),
    K("vae-scaling-factor", "latent_handling", ("vae_latents",), "latents are scaled by another factor before decoding",
      ("reference", "candidate"), ("vae-scaling-missing",)),
    K("vae-scaling-missing", "latent_handling", ("vae_latents",), "latents are not scaled back before decoding",
      ("reference", "candidate"), ("vae-scaling-factor",)),
    K("vae-shift-missing", "latent_handling", ("vae_latents",), "the VAE's shift_factor is not added before decoding",
      ("reference", "candidate")),
    K("latent-mean-std-missing", "latent_handling", ("vae_latents",), "mean and standard deviation of each latent channel are not applied",
      ("divisor_reference", "divisor_candidate", "offset_reference", "offset_candidate")),
    K("latent-channel-order", "latent_handling", ("vae_latents", "initial_latents", "latent_model_input"),
      "the latent channels are in another order", ("order",)),
    K("condition-mask-layout", "latent_handling", ("latent_model_input",), "mask and image channels of the condition are in another order",
      ("order",)),
    K("condition-latent-scaled-twice", "latent_handling", ("latent_model_input", "image_latents"),
      "condition latents are scaled by the VAE's factor once more or once less", ("factor",)),
    K("first-frame-encoding-context", "latent_handling", ("init_image", "image_latents", "latent_model_input"),
      "the condition frame is encoded alone on one side and with the frames behind it on the other", ("reference", "candidate")),
    K("vae-input-range", "latent_handling", ("init_image",), "the encoder receives [0, 1] instead of [-1, 1]", ("scale", "offset")),
    K("mask-inverted", "latent_handling", ("mask",), "the mask means the opposite on the other side"),
    K("frame-count-rule", "latent_handling", ("initial_noise", "settings"), "the number of latent frames is rounded by another rule",
      ("reference", "candidate")),
    K("temporal-upsample-first-frame", "latent_handling", ("decoded",), "the decoder upsamples the first latent frame in time, too",
      ("reference", "candidate")),
)  # fmt: skip
