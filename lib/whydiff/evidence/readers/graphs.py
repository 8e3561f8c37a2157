"""Settings in a ComfyUI graph (the `prompt` of its API format: {id: {"class_type", "inputs"}}), under the field's own names."""

from __future__ import annotations

# Inputs of nodes that say something about the run. The nodes that hold them differ between models; the inputs' names do not.
INPUTS = {
    "seed": "seed", "noise_seed": "seed", "steps": "num_inference_steps", "cfg": "guidance_scale", "guidance": "guidance_scale",
    "sampler_name": "sampler", "scheduler": "sigma_schedule", "denoise": "strength", "width": "width", "height": "height",
    "batch_size": "batch_size", "length": "num_frames", "shift": "shift", "max_shift": "max_shift", "base_shift": "base_shift",
    "ckpt_name": "checkpoint", "unet_name": "checkpoint", "vae_name": "vae", "lora_name": "lora", "strength_model": "lora_scale",
    "start_at_step": "start_at_step", "end_at_step": "end_at_step", "weight_dtype": "dtype", "stop_at_clip_layer": "clip_skip",
}  # fmt: skip
TEXTS = ("positive", "negative")
MOST_VALUES = 100  # of one name that are told
FARTHEST = 64  # nodes between a sampler and its text


def settings(graph: dict) -> dict:
    """{name: value} of what the graph says; a name on which its nodes do not agree is a list of all its values."""
    found: dict = {}
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)}
    for node in nodes.values():
        for name, value in node["inputs"].items():
            if name in INPUTS and isinstance(value, (str, int, float, bool)):
                held = found.setdefault(INPUTS[name], [])
                if value not in held and len(held) < MOST_VALUES:
                    held.append(value)
        for name in TEXTS:
            text = _text(nodes, node["inputs"].get(name))
            if text is not None:
                found["prompt" if name == "positive" else "negative_prompt"] = [text]
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _text(nodes: dict, link, seen: set[str] | None = None) -> str | None:
    """The text at the other end of a link, through whatever nodes lie between, each looked at once."""
    seen = set() if seen is None else seen
    name = str(link[0]) if isinstance(link, list) and link else ""
    node = None if name in seen or len(seen) > FARTHEST else nodes.get(name)
    if node is None:
        return None
    seen.add(name)
    for name in ("text", "prompt", "clip_l", "t5xxl"):
        if isinstance(node["inputs"].get(name), str):
            return node["inputs"][name]
    return next((text for value in node["inputs"].values() if (text := _text(nodes, value, seen)) is not None), None)
