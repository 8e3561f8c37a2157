"""Faults of the autoencoder."""

from __future__ import annotations

import torch
from torch import nn

from whydiff.faults.fault import fault
from whydiff.faults.rewriting import edit
from whydiff.faults.surgery import compute_in, submodules, wrap


@fault("vae-decode-noise", "ltx", decode_noise_scale=None)
def _(trial):
    """The call leaves the noise scale out: one side takes the decode timestep for it, the other nothing."""
    edit(trial.faulty.pipeline, "__call__", ("decode_noise_scale = decode_timestep", "decode_noise_scale = [0.0] * batch_size"))


@fault("quant-conv-missing", "sd15", "sdxl", "sd15_img2img", "wan", "qwen")
def _(trial):
    vae = trial.faulty.pipeline.vae
    name = "quant_conv" if trial.faulty.kind == "sd15_img2img" else "post_quant_conv"
    wrap(getattr(vae, name), "forward", lambda _forward, x, *_args, **_kwargs: x)


@fault("last-frames-corrupt", "wan", "wan_i2v", "ltx")
def _(trial):
    """A kernel for large inputs leaves the last rows of the last frames unwritten."""
    frames, rows = trial.draw.choice([1, 2]), trial.draw.randint(2, 6)
    left = trial.draw.choice([0.0, 0.0, -1.0])

    def decode(original, *args, **kwargs):
        result = original(*args, **kwargs)
        picture = result[0] if isinstance(result, tuple) else result.sample
        picture[:, :, -frames:, -rows:] = left
        return result

    wrap(trial.faulty.pipeline.vae, "decode", decode)


@fault("encoder-downsample-padding", "sd15_img2img", "sd15_img2img_dpm", "sd15_inpaint", "wan_i2v")
def _(trial):
    for module in trial.faulty.pipeline.vae.encoder.modules():
        if type(module).__name__ == "Downsample2D" and module.padding == 0:
            module.padding, module.conv.padding = 1, (1, 1)
        elif isinstance(module, nn.ZeroPad2d):
            module.padding = (1, 1, 1, 1)


@fault("vae-cache-wrong-size", "wan")
def _(trial):
    """The decoder's cache is cleared as far as the encoder has convolutions; what lies beyond stays for the next video."""
    vae = trial.faulty.pipeline.vae
    cleared = vae._cached_conv_counts["encoder"]

    def clear(original):
        before = getattr(vae, "_feat_map", None)
        original()
        if before is not None:
            vae._feat_map[cleared:] = before[cleared:]

    wrap(vae, "clear_cache", clear)


@fault("tile-blend-neighbours", "sd15", "sdxl", "flux", "sd3")
def _(trial):
    """Both sides decode in tiles; one blends with the neighbours as they were decoded, not as they stand on the canvas."""
    size = trial.draw.choice([4, 8])
    for host in (trial.faulty, trial.healthy):
        host.pipeline.vae.enable_tiling()
        host.pipeline.vae.tile_latent_min_size, host.pipeline.vae.tile_sample_min_size = size, 4 * size
    edit(trial.faulty.pipeline.vae, "tiled_decode",
         ("result_rows = []", "result_rows = []\n        raw = [[tile.clone() for tile in row] for row in rows]"),
         ("self.blend_v(rows[i - 1][j]", "self.blend_v(raw[i - 1][j]"), ("self.blend_h(row[j - 1]", "self.blend_h(raw[i][j - 1]"))  # fmt: skip


@fault("groupnorm-per-tile", "sd15", "sdxl", "flux", "flux_port", "sd3")
def _(trial):
    """The decoder works on halves of the picture; its norms see one half each (the convolutions see across the border)."""
    axis, parts = trial.draw.choice([2, 3]), trial.draw.choice([2, 2, 4])

    def by_part(forward, x):
        at = min(axis, x.ndim - 1)
        return torch.cat([forward(part) for part in x.chunk(parts, at)], at)

    for norm in submodules(trial.faulty.pipeline.vae.decoder, nn.GroupNorm).values():
        wrap(norm, "forward", by_part)


@fault("posterior-sample-vs-mode", "sd15_img2img", "sd15_img2img_dpm", "sd15_inpaint", "wan_i2v")
def _(trial):
    method = {"sd15_inpaint": "_encode_vae_image"}.get(trial.faulty.kind, "prepare_latents")
    if trial.faulty.kind == "wan_i2v":
        change = ('sample_mode="argmax"', 'sample_mode="sample", generator=generator')
    else:
        change = ("generator=generator)", 'generator=generator, sample_mode="argmax")')
        if trial.faulty.kind != "sd15_inpaint":
            change = (f"init_latents = retrieve_latents(self.vae.encode(image), {change[0]}",
                      f"init_latents = retrieve_latents(self.vae.encode(image), {change[1]}")  # fmt: skip
    edit(trial.faulty.pipeline, method, change)


@fault("decoder-upsample-mode", "sd15", "sdxl", "flux", "flux_port", "sd3", "wan")
def _(trial):
    corners = trial.draw.choice(["", ", align_corners=True"])
    for module in trial.faulty.pipeline.vae.decoder.modules():
        if type(module).__name__ in ("Upsample2D", "Upsample"):
            edit(module, "forward", ('mode="nearest"', f'mode="bilinear"{corners}'))
        elif isinstance(module, nn.Upsample):
            module.mode, module.align_corners = "bilinear", bool(corners)


@fault("vae-fp16-nan", "sd15", "sdxl", "flux", "sd3")
def _(trial):
    """A decoder whose inner values pass 65504, as SDXL's does, computed in fp16 on one side."""
    size = trial.draw.uniform(3e5, 3e6)
    for host in (trial.faulty, trial.healthy):
        with torch.no_grad():
            host.pipeline.vae.decoder.conv_in.weight.mul_(size)
    compute_in(trial.faulty.pipeline.vae.decoder, torch.float16)
