"""The state of the machine and of torch that outputs can depend on: versions, devices, precision flags, attention."""

from __future__ import annotations

import contextlib
import os
import platform
import sys

import torch

from whydiff.evidence.surroundings.fingerprint import package_version

_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
              "DIFFUSERS_ATTN_BACKEND", "TORCH_CUDNN_V8_API_DISABLED")  # fmt: skip


def environment() -> dict:
    """Facts of this process, JSON-ready."""
    facts = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system(),
             "threads": torch.get_num_threads(), "versions": versions(), "precision": precision_flags(),
             "attention": attention_backends(), "devices": devices(),
             "variables": {k: os.environ[k] for k in _VARIABLES if k in os.environ}}  # fmt: skip
    return facts


def versions() -> dict:
    names = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "whydiff")
    return {name: version for name in names if (version := package_version(name))}


def precision_flags() -> dict:
    """TF32, reduced-precision reductions, determinism: what makes equal code give unequal numbers."""
    backends = torch.backends
    flags = {
        "matmul_tf32": backends.cuda.matmul.allow_tf32,
        "cudnn_tf32": backends.cudnn.allow_tf32,
        "cudnn_benchmark": backends.cudnn.benchmark,
        "bf16_reduced_precision_reduction": str(backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "fp16_reduced_precision_reduction": str(backends.cuda.matmul.allow_fp16_reduced_precision_reduction),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }
    return flags


def attention_backends() -> dict:
    """Which of torch's scaled-dot-product kernels may be chosen, and diffusers' own choice where it is loaded."""
    cuda = torch.backends.cuda
    found = {"flash": cuda.flash_sdp_enabled(), "memory_efficient": cuda.mem_efficient_sdp_enabled(),
             "math": cuda.math_sdp_enabled()}  # fmt: skip
    if hasattr(cuda, "cudnn_sdp_enabled"):  # torch 2.5
        found["cudnn"] = cuda.cudnn_sdp_enabled()
    dispatch = sys.modules.get("diffusers.models.attention_dispatch")
    if dispatch is not None:
        with contextlib.suppress(Exception):
            found["diffusers"] = str(dispatch._AttentionBackendRegistry.get_active_backend()[0])
    return found


def devices() -> list[dict]:
    """Accelerators with their memory in bytes; an empty list on a machine without."""
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            found.append({"device": f"cuda:{index}", "name": properties.name, "memory": total, "free": free,
                          "capability": f"{properties.major}.{properties.minor}",
                          "multiprocessors": properties.multi_processor_count})  # fmt: skip
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    return found


@contextlib.contextmanager
def deterministic(warn_only: bool = True):
    """Deterministic kernels, no TF32 and no autotuning while the context lasts; the former state comes back."""
    before = precision_flags()
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before["deterministic_algorithms"])
        torch.backends.cuda.matmul.allow_tf32 = before["matmul_tf32"]
        torch.backends.cudnn.allow_tf32 = before["cudnn_tf32"]
        torch.backends.cudnn.benchmark = before["cudnn_benchmark"]
