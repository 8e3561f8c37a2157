"""Probe points at a VAE: what it decodes and decoded, what it encodes, and the latents drawn from what it encoded."""

from __future__ import annotations

import functools

import torch


def install(wrap, vae, recorder) -> None:
    """`wrap(owner, name, around)` replaces a method until the recording ends."""
    depth = 0  # a decoder may call itself, slice by slice or tile by tile; only the outermost call is the pipeline's

    def outermost(around):
        def once(original, *args, **kwargs):
            nonlocal depth
            if depth:
                return original(*args, **kwargs)
            depth += 1
            try:
                return around(original, *args, **kwargs)
            finally:
                depth -= 1

        return once

    @outermost
    def decode(original, z, *args, **kwargs):
        result = original(recorder.observe("vae_latents", z, component="vae"), *args, **kwargs)
        value = result[0] if isinstance(result, tuple) else result.sample
        changed = recorder.observe("decoded", value, component="vae")
        if isinstance(result, tuple):
            return (changed, *result[1:])
        result.sample = changed
        return result

    @outermost
    def encode(original, x, *args, **kwargs):
        result = original(recorder.observe("init_image", x, component="vae"), *args, **kwargs)
        posterior = result[0] if isinstance(result, tuple) else getattr(result, "latent_dist", getattr(result, "latents", None))
        if isinstance(posterior, torch.Tensor):
            changed = recorder.observe("image_latents", posterior, component="vae")
            if isinstance(result, tuple):
                return (changed, *result[1:])
            result.latents = changed
        else:
            for method in ("sample", "mode"):
                _watch(posterior, method, recorder)
        return result

    if hasattr(vae, "decode"):
        wrap(vae, "decode", decode)
    if hasattr(vae, "encode"):
        wrap(vae, "encode", encode)


def _watch(posterior, method: str, recorder) -> None:
    """The latents taken from a posterior are `image_latents`, whether they are drawn from it or its mean."""
    original = getattr(posterior, method, None)
    if original is None:
        return

    @functools.wraps(original)
    def taken(*args, **kwargs):
        latents = original(*args, **kwargs)
        return recorder.observe("image_latents", latents, component=method) if isinstance(latents, torch.Tensor) else latents

    object.__setattr__(posterior, method, taken)
