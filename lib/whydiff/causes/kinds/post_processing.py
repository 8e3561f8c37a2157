"""Causes that act in the stage `post_processing`."""

from whydiff.causes.kinds.kind import CauseKind as K

KINDS: tuple[K, ...] = (
    K("rgb-bgr", "post_processing", ("image",), "the colour channels are in another order", ("permutation",)),
    K("uint8-truncation", "post_processing", ("image",), "the conversion to 8 bit cuts off instead of rounding", ("side", "mean_levels")),
    K("clamp-missing", "post_processing", ("image",), "values out of range wrap around in the conversion to 8 bit", ("side",)),
    K("video-range-tag", "post_processing", ("image",), "limited against full range, or BT.601 against BT.709", ("matrix", "offset")),
    K("watermark-added", "post_processing", ("image",), "a fixed pattern is added to every picture", ("side", "mean_levels")),
    K("failure-masked-as-output", "post_processing", ("image",), "a placeholder is returned instead of what was decoded", ("side",)),
    K("nan-cast-to-black", "post_processing", ("decoded", "vae_latents"), "values that are not finite become black", ("side", "count"),
      ("vae-fp16-nan",)),
    K("center-crop-vs-stretch", "post_processing", ("init_image",), "the picture is cropped on one side, stretched or padded on the other",
      ("reference", "candidate")),
    K("lossy-image-format", "post_processing", ("image",), "one side's image was saved in a format that loses detail (JPEG, WebP)",
      ("side", "format")),
)  # fmt: skip
