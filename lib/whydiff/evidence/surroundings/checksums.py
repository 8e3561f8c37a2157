"""What a run may change behind one's back: weights, buffers and the tensors of the call, each by two sums."""

from __future__ import annotations

import torch

from whydiff.evidence.surroundings.offloaded import named_tensors


def checksums(components: dict, call: dict) -> dict[str, tuple[float, float]]:
    """{name: (sum, sum of magnitudes)} in float64 of every parameter, buffer and tensor argument. One read, no copies."""
    found = {}
    for component, root in components.items():
        if isinstance(root, torch.nn.Module):
            for name, tensor in named_tensors(root):
                found[f"{component}/{name}"] = _sums(tensor)
    for key, value in call.items():
        if isinstance(value, torch.Tensor):
            found[f"call.{key}"] = _sums(value)
    return found


def changed(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> list[str]:
    """The names whose sums are others, or that came or went. NaN equals NaN."""
    names = dict.fromkeys([*before, *after])
    return [name for name in names if repr(before.get(name)) != repr(after.get(name))]


def _sums(tensor: torch.Tensor) -> tuple[float, float]:
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    if values.is_meta or not values.numel():
        return 0.0, 0.0
    return values.sum(dtype=torch.float64).item(), values.abs().sum(dtype=torch.float64).item()
