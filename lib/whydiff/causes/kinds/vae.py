"""Causes that act in the stage `vae`."""

from whydiff.causes.kinds.kind import CauseKind as K

MODULES = ("modules",)

KINDS: tuple[K, ...] = (
    K("vae-decode-noise", "vae", ("vae_latents",), "another share of noise is mixed into the latents before decoding", ("side", "share")),
    K("quant-conv-missing", "vae", MODULES, "the convolution before decoding, or after encoding, is not applied", ("module", "side")),
    K("encoder-downsample-padding", "vae", MODULES, "strided convolutions are padded on other sides", ("entry", "reference", "candidate")),
    K("decoder-upsample-mode", "vae", MODULES, "another interpolation between the decoder's blocks", ("entry", "reference", "candidate")),
    K("groupnorm-per-tile", "vae", ("modules", "decoded"), "statistics of a norm are taken in each part of the picture", ("function", "variant")),
    K("tile-blend-neighbours", "vae", ("decoded",), "tiles are blended differently", ("region",)),
    K("last-frames-corrupt", "vae", ("decoded",), "the last rows or frames are wrong, all else is right", ("region",)),
    K("posterior-sample-vs-mode", "vae", ("image_latents",), "one side samples what the encoder puts out, the other takes its mean",
      ("reference", "candidate")),
    K("vae-cache-wrong-size", "vae", ("image_latents",), "the encoder's feature cache is not made anew for each request",
      ("side",), ("conv-cache-leak",)),
    K("vae-fp16-nan", "vae", ("decoded", "modules"), "the VAE overflows float16", ("side", "count")),
)  # fmt: skip
