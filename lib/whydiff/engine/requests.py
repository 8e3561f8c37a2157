"""Requests that differ from a side's own: what a side is asked in between, to see what it keeps."""

from __future__ import annotations

import torch

from whydiff.evidence.sides.runnable import RunnableSide

PROMPT = "a green house"


def other_request(side: RunnableSide) -> dict:
    """A request that differs in prompt and seed from the side's own: the B of A-B-A."""
    changes = {}
    for key, value in side.call.items():
        if (key == "prompt" and value is not None) or (key.startswith("prompt_") and _worded(value)):  # prompt_2: what another encoder reads
            changes[key] = [PROMPT] * len(value) if isinstance(value, (list, tuple)) else PROMPT
    if "seed" in side.call and side.call["seed"] is not None:
        changes["seed"] = int(side.call["seed"]) + 1
    return changes


def other_conditions(side: RunnableSide) -> dict:
    """A request with another negative prompt, and pictures turned upside down; empty where the call has neither."""
    changes = {}
    for key, value in side.call.items():
        if key.startswith("negative_prompt") and _worded(value):
            changes[key] = PROMPT if isinstance(value, str) else [PROMPT] * len(value)
        elif isinstance(value, torch.Tensor) and "image" in key and value.dim() >= 3:
            changes[key] = value.flip(-2)
        elif hasattr(value, "transpose") and hasattr(value, "getbands"):  # a PIL picture
            changes[key] = value.transpose(1)  # FLIP_TOP_BOTTOM
    return changes


def alike_asked(sides: dict[str, RunnableSide], changes: dict[str, dict]) -> bool:
    """Do the changes ask both sides for the same other thing, and does neither hold conditions that they leave as they are?"""
    kinds = [{_kind(key) for key in made} for made in changes.values()]
    kept = [{_kind(k) for k, v in side.call.items() if k not in changes[role] and not _plain(v)} for role, side in sides.items()]
    return bool(kinds[0]) and kinds[0] == kinds[1] and kept[0] == kept[1]


def _worded(value) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and bool(value) and all(isinstance(v, str) for v in value))


def _plain(value) -> bool:
    """A setting, as against tensors, pictures and arrays that are conditions themselves."""
    if isinstance(value, (list, tuple)):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, (str, int, float, bool, dict)) or callable(value) or isinstance(value, torch.Generator)


def _kind(key: str) -> str:
    """`prompt` of `prompt_2`: encoders that are not asked by themselves read the first prompt."""
    head = key.rpartition("_")
    return head[0] if head[2].isdigit() else key
