"""ComfyUI: `.latent` files of its SaveLatent node, and conditionings saved with torch (`.pt`).

A `.latent` is a safetensors file with `latent_tensor`; without the key `latent_format_version_0` it is of an older version whose
values LoadLatent divides by 0.18215 (ComfyUI, nodes.py, LoadLatent). A conditioning is a list of `[tensor, options]`; much of what a
sampler does with it stands in the options: `pooled_output`, `reference_latents`, `guidance`, masks, areas, hooks.
"""

from __future__ import annotations

import pathlib

import torch

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.readers import graphs
from whydiff.evidence.traces.files import load_plain, read_tensors
from whydiff.evidence.traces.strangers import json_of, reading
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

NAME, WHAT = "comfyui", "a .latent, or a conditioning in a .pt"
SD_SCALE = 0.18215  # what latents of the older version are divided by
OPTIONS = {"pooled_output": "pooled_prompt_embeds", "reference_latents": "image_latents", "attention_mask": "attention_mask",
           "concat_latent_image": "image_latents", "mask": "mask", "guidance": "model_input/guidance"}  # fmt: skip


def matches(path: pathlib.Path) -> bool:
    if path.suffix == ".latent":
        return path.is_file()
    if path.suffix not in (".pt", ".pth"):
        return False
    try:
        return _conditioning(load_plain(path)) is not None
    except Trouble:
        return False


def read(path: pathlib.Path) -> Trace:
    """The latent, or the conditioning with what its options hold. Raises Trouble for anything else."""
    return _latent(path) if path.suffix == ".latent" else _conditionings(path)


def _latent(path: pathlib.Path) -> Trace:
    from safetensors import safe_open

    held = read_tensors(path, as_suffix=".safetensors")
    if "latent_tensor" not in held:
        raise Trouble(f"{path}: no latent_tensor in it; ComfyUI's SaveLatent writes one. It holds {', '.join(held) or 'nothing'}.")
    old = "latent_format_version_0" not in held
    trace = Trace(producer={"package": "comfyui", "notes": [
        f"an older .latent, whose values were divided by {SD_SCALE} as LoadLatent does"] if old else []})  # fmt: skip
    trace.add(Event(Place("vae_latents"), held["latent_tensor"].float() / SD_SCALE if old else held["latent_tensor"]))
    with reading(path, "a .latent that can be read"), safe_open(path, "pt") as file:
        prompt = (file.metadata() or {}).get("prompt")
    trace.settings = graphs.settings(_json(prompt)) if prompt else {}
    limits.check_values(trace.settings, path)
    return trace


def _conditioning(held) -> list | None:
    """The entries `[tensor, options]`, where that is what `held` is."""
    entries = held if isinstance(held, (list, tuple)) and held and isinstance(held[0], (list, tuple)) else None
    return list(entries) if entries and all(len(e) == 2 and isinstance(e[0], torch.Tensor) and isinstance(e[1], dict) for e in entries) else None


def _conditionings(path: pathlib.Path) -> Trace:
    held = load_plain(path)
    entries = _conditioning(held)
    trace, notes = Trace(), []
    if entries is None:
        if not isinstance(held, torch.Tensor):
            raise Trouble(f"{path}: no conditioning of ComfyUI in it: expected a list of [tensor, options].")
        notes.append("only the tensor was saved; the options that ComfyUI keeps beside it (pooled_output, reference_latents, guidance, "
                     "masks) are lost, and a sampler that is given this tensor alone does without them")  # fmt: skip
        entries = [[held, {}]]
    for number, (tensor, options) in enumerate(entries):
        trace.add(Event(Place("prompt_embeds", occurrence=number), tensor))
        for key, value in options.items():
            for index, part in enumerate(value if isinstance(value, (list, tuple)) else [value]):
                probe = OPTIONS.get(key, str(key))
                if isinstance(part, torch.Tensor):
                    trace.add(Event(Place(probe, occurrence=number + index), part))
                elif isinstance(part, (str, int, float, bool)):
                    trace.settings[str(key)] = part
    trace.producer = {"package": "comfyui", "notes": notes, "options": sorted({str(key) for _, options in entries for key in options})}
    return trace


def _json(text: str) -> dict:
    try:
        held = json_of(text, "its graph")
    except Trouble:
        return {}
    return held if isinstance(held, dict) else {}
