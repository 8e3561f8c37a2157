"""What a side may set for the whole process while it loads: precision flags, attention kernels, environment variables.

In a process that runs many cases, what one side set would reach the next case's. So every case begins with what the process
had at first, and a side that is kept brings along what it set when it was loaded.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

# (how to read it, how to set it); the order matters: float32_matmul_precision also sets what stands after it.
_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "float32_matmul_precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "flash_sdp": (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    "mem_efficient_sdp": (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    "math_sdp": (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    "cudnn_sdp": (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    "deterministic": (lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
                      lambda now: torch.use_deterministic_algorithms(now[0], warn_only=now[1])),
}  # fmt: skip
_ATTRIBUTES = ((torch.backends.cuda.matmul, ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")),
               (torch.backends.cudnn, ("allow_tf32", "benchmark", "deterministic", "enabled")))  # fmt: skip


def read() -> dict[str, Any]:
    """All of it, as plain values."""
    found = {name: look() for name, (look, _) in _FLAGS.items()}
    for number, (holder, names) in enumerate(_ATTRIBUTES):
        found |= {f"{number}.{name}": getattr(holder, name) for name in names}
    found |= {f"$ {name}": value for name, value in os.environ.items()}
    attention = _attention()
    return found | ({"attention": attention[0]()} if attention else {})


def put(state: dict[str, Any]) -> None:
    """Set what is not already so. Environment variables that `state` does not have are removed."""
    now = read()
    for name, (_, change) in _FLAGS.items():
        if now[name] != state[name]:
            change(state[name])
    for number, (holder, names) in enumerate(_ATTRIBUTES):
        for name in names:
            with contextlib.suppress(RuntimeError):  # where this build of torch cannot
                if getattr(holder, name) != state[f"{number}.{name}"]:
                    setattr(holder, name, state[f"{number}.{name}"])
    variables = {name[2:]: value for name, value in state.items() if name.startswith("$ ")}
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
    if "attention" in state and (attention := _attention()) is not None:
        attention[1](state["attention"])


def change(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What became another value, or came new."""
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def _attention():
    """How diffusers' choice of an attention kernel is read and set; None where it is not loaded or has none."""
    registry = getattr(sys.modules.get("diffusers.models.attention_dispatch"), "_AttentionBackendRegistry", None)
    if registry is None or not hasattr(registry, "_active_backend"):
        return None
    return (lambda: registry._active_backend), (lambda value: setattr(registry, "_active_backend", value))
