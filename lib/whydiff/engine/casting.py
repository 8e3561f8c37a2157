"""Modules in another floating-point type for as long as an experiment lasts."""

from __future__ import annotations

import contextlib

import torch


@contextlib.contextmanager
def cast(components: dict, dtype: torch.dtype):
    """The floating-point weights of `components` in `dtype` for as long as the context lasts; then the very same again."""
    modules = [m for root in components.values() if isinstance(root, torch.nn.Module) for m in root.modules()]
    parameters = {p: p.data for m in modules for p in m._parameters.values() if p is not None}
    buffers = [(m, name, b) for m in modules for name, b in m._buffers.items() if b is not None]
    try:
        for p in parameters:
            if p.is_floating_point():
                p.data = p.data.to(dtype)
        for module, name, buffer in buffers:
            if buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
        yield
    finally:
        for p, data in parameters.items():
            p.data = data
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
