"""A network's weights wherever they are: those that accelerate's hooks keep elsewhere (the machine's memory, a disk) between calls, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def named_tensors(root: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, values) of each parameter and buffer, once. What a hook has put away is read from where it lies, not put back."""
    seen: set[int] = set()
    for prefix, module in root.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            yield f"{prefix}.{name}" if prefix else name, _stored(module, name) if tensor.is_meta else tensor


def _stored(module: torch.nn.Module, name: str) -> torch.Tensor:
    """What a hook loads when the module is called; the parameter on the meta device where none does."""
    hook = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,)):
        weights = getattr(one, "weights_map", None)
        if weights is not None:
            with contextlib.suppress(KeyError):
                return weights[name]
    return module._parameters.get(name, module._buffers.get(name))
