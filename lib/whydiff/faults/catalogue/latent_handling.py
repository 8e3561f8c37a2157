"""Faults of what happens to latents outside the network: scale, layout, packing, frames."""

from __future__ import annotations

import dataclasses

from whydiff.faults.fault import fault
from whydiff.faults.rewriting import edit
from whydiff.faults.surgery import wrap

# The line of each pipeline that makes the decoder's input, with what a port leaves out.
_UNSCALED = {
    "flux": ("latents / self.vae.config.scaling_factor", "latents"),
    "sd3": ("latents / self.vae.config.scaling_factor", "latents"),
    "sd15": ("latents / self.vae.config.scaling_factor", "latents"),
    "sdxl": ("latents = latents / self.vae.config.scaling_factor", "pass"),
}
_PUBLISHED_FACTORS = [0.18215, 0.13025, 0.3611, 1.5305, 0.41407]


@fault("vae-scaling-factor", "flux", "flux_port", "sd15", "sdxl", "sd3")
def _(trial):
    pipeline = trial.faulty.pipeline
    own = pipeline.vae_config["scaling_factor"] if trial.faulty.kind == "flux_port" else pipeline.vae.config.scaling_factor
    other = trial.draw.choice([factor for factor in _PUBLISHED_FACTORS if abs(factor / own - 1) > 0.05])
    if trial.faulty.kind == "flux_port":
        pipeline.vae_config = {**pipeline.vae_config, "scaling_factor": other}
    else:
        pipeline.vae.register_to_config(scaling_factor=other)


@fault("vae-scaling-missing", "flux", "flux_port", "sd15", "sdxl", "sd3")
def _(trial):
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        pipeline.options = dataclasses.replace(pipeline.options, apply_vae_scaling_factor=False)
    else:
        edit(pipeline, "__call__", _UNSCALED[trial.faulty.kind])


@fault("vae-shift-missing", "flux", "flux_port", "sd3")
def _(trial):
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        pipeline.options = dataclasses.replace(pipeline.options, apply_vae_shift_factor=False)
    else:
        edit(pipeline, "__call__", (" + self.vae.config.shift_factor", ""))


@fault("latent-mean-std-missing", "wan", "wan_i2v", "qwen")
def _(trial):
    edit(trial.faulty.pipeline, "__call__", ("latents = latents / latents_std + latents_mean", "pass"))


@fault("latent-channel-order", "flux", "sd15", "sd3", "wan", "sdxl")
def _(trial):
    channels = getattr(trial.faulty.pipeline.vae.config, "latent_channels", None) or trial.faulty.pipeline.vae.config.z_dim
    order = list(range(channels))
    if trial.draw.random() < 0.5:
        by = trial.draw.randrange(1, channels)
        order = order[by:] + order[:by]
    else:
        while order == sorted(order):
            trial.draw.shuffle(order)
    decode = "self.vae.decode(latents"
    edit(trial.faulty.pipeline, "__call__", (decode, f"self.vae.decode(latents[:, {order}]"))


@fault("vae-input-range", "sd15_img2img", "sd15_img2img_dpm", "sd15_inpaint", "wan_i2v")
def _(trial):
    """The picture goes to the encoder as 0 to 1."""
    pipeline = trial.faulty.pipeline
    processor = getattr(pipeline, "video_processor", None) or pipeline.image_processor
    wrap(processor, "normalize", lambda _normalize, images: images)


@fault("latent-transposed", "sd15", "sd15_euler", "sd3", "sdxl", "wan", "flux")
def _(trial):
    """Noise is made for (width, height) and turned. The shape is right for every size."""
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux":
        edit(pipeline, "prepare_latents",
             ("(batch_size, num_channels_latents, height, width)", "(batch_size, num_channels_latents, width, height)"),
             ("latents = self._pack_latents(latents,", "latents = self._pack_latents(latents.transpose(-1, -2).contiguous(),"))  # fmt: skip
        return

    def turned(prepare, batch, channels, height, width, *args, **kwargs):
        return prepare(batch, channels, width, height, *args, **kwargs).transpose(-1, -2).contiguous()

    wrap(pipeline, "prepare_latents", turned)


@fault("patch-pack-order", "flux", "qwen")
def _(trial):
    """Elements of a patch in the order (pw, ph), or channels fastest; the way back is as it should be, or just as wrong."""
    forth, back = trial.draw.choice([
        (("(0, 2, 4, 1, 3, 5)", "(0, 2, 4, 1, 5, 3)"), ("(0, 3, 1, 4, 2, 5)", "(0, 3, 1, 5, 2, 4)")),
        (("(0, 2, 4, 1, 3, 5)", "(0, 2, 4, 3, 5, 1)"), None),
    ])  # fmt: skip
    edit(trial.faulty.pipeline, "_pack_latents", forth)
    if back is not None and trial.draw.random() < 0.5:
        edit(trial.faulty.pipeline, "_unpack_latents", back)


@fault("condition-mask-layout", "wan_i2v", "sd15_inpaint")
def _(trial):
    if trial.faulty.kind == "sd15_inpaint":
        edit(trial.faulty.pipeline, "__call__", ("torch.cat([latent_model_input, mask, masked_image_latents], dim=1)",
                                                 "torch.cat([latent_model_input, masked_image_latents, mask], dim=1)"))  # fmt: skip
    elif trial.draw.random() < 0.5:
        edit(trial.faulty.pipeline, "prepare_latents", ("[mask_lat_size, latent_condition]", "[latent_condition, mask_lat_size]"))
    else:  # the mask's four channels hold whole latent frames, not the pixel frames of each
        turned = "mask_lat_size = mask_lat_size.transpose(1, 2)"
        edit(trial.faulty.pipeline, "prepare_latents", (turned, "mask_lat_size = mask_lat_size.reshape("
             "batch_size, self.vae_scale_factor_temporal, -1, latent_height, latent_width)"))  # fmt: skip


@fault("condition-latent-scaled-twice", "wan_i2v", "sd15_inpaint")
def _(trial):
    """The condition latents get the factor once more; or not at all, where the model expects it."""
    if trial.faulty.kind == "wan_i2v":
        again = "latent_condition = (latent_condition - latents_mean) * latents_std"
        edit(trial.faulty.pipeline, "prepare_latents", (again, trial.draw.choice([f"{again} * latents_std", "pass"])))
    else:
        line = "masked_image_latents = self._encode_vae_image(masked_image, generator=generator)"
        how = trial.draw.choice(["*", "/"])
        edit(trial.faulty.pipeline, "prepare_mask_latents", (line, f"{line} {how} self.vae.config.scaling_factor"))


@fault("first-frame-encoding-context", "wan_i2v")
def _(trial):
    """The first frame is encoded alone; the frames after it are zeros of the latent space, not latents of empty frames."""
    line = "latent_condition = latent_condition.repeat(batch_size, 1, 1, 1, 1)"
    pad = 'latent_condition.new_zeros(*latent_condition.shape[:2], num_latent_frames - 1, *latent_condition.shape[-2:])'
    edit(trial.faulty.pipeline, "prepare_latents",
         ('retrieve_latents(self.vae.encode(video_condition), sample_mode="argmax")\n            ' + line,
          'retrieve_latents(self.vae.encode(video_condition[:, :, :1]), sample_mode="argmax")\n            '
          f"{line}\n            latent_condition = torch.cat([latent_condition, {pad}], dim=2)"))  # fmt: skip


@fault("frame-count-rule", "wan", num_frames=8)
def _(trial):
    """Frames that are a multiple of 4 are not rounded up to 4 k + 1 before they are counted in latents."""
    rule = "num_frames // self.vae_scale_factor_temporal * self.vae_scale_factor_temporal + 1"
    edit(trial.faulty.pipeline, "__call__", (rule, "num_frames"))


@fault("temporal-upsample-first-frame", "wan", "wan_i2v")
def _(trial):
    """The first latent frame is doubled in time like all others."""
    changed = 0
    for module in trial.faulty.pipeline.vae.decoder.modules():
        if type(module).__name__ == "WanResample" and module.mode == "upsample3d":
            # The first chunk, whose cache is empty, takes the way of the second.
            edit(module, "forward", ('                if feat_cache[idx] is None:\n                    feat_cache[idx] = "Rep"\n'
                                     "                    feat_idx[0] += 1\n                else:\n",
                                     "                if feat_cache[idx] is None:\n                    feat_cache[idx] = 'Rep'\n"
                                     "                if True:\n"))  # fmt: skip
            changed += 1
    assert changed, "the decoder upsamples nothing in time"


