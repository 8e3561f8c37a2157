"""How faults change an object without touching its class: wrap a method, swap what a module computes (source: `rewriting`).

Everything acts on one instance, so that the healthy side, made of the same classes, stays as it is.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import nn

from whydiff.faults.fault import Host, Trial


def wrap(owner, name: str, around: Callable) -> None:
    """`owner.name(...)` becomes `around(original, ...)`, on this instance alone; the signature stays."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        return around(original, *args, **kwargs)

    object.__setattr__(owner, name, wrapper)


def networks(host: Host) -> list[nn.Module]:
    """The denoising networks: one, or two experts."""
    found = [getattr(host.pipeline, name, None) for name in ("transformer", "unet", "transformer_2")]
    return [network for network in found if network is not None]


def submodules(root: nn.Module, *kinds, having: str | None = None) -> dict[str, nn.Module]:
    """Modules below `root` of these classes (or class names), or with this attribute, by dotted name."""
    return {
        name: module
        for name, module in root.named_modules()
        if name and ((having is not None and getattr(module, having, None) is not None)
                     or any(type(module).__name__ == k if isinstance(k, str) else isinstance(module, k) for k in kinds))
    }  # fmt: skip


def attentions(host: Host, joint: bool | None = None) -> dict[str, nn.Module]:
    """Attention modules of the first network; `joint`: only those that take text beside the image (or only the others)."""
    found = submodules(networks(host)[0], having="to_q")
    if joint is None:
        return found
    return {n: m for n, m in found.items() if (getattr(m, "add_k_proj", None) is not None) == joint}


def matching(trial: Trial, module: nn.Module) -> nn.Module:
    """The healthy side's module at the place that `module` has on the faulty one."""
    for own, other in zip(networks(trial.faulty), networks(trial.healthy), strict=True):
        for name, found in own.named_modules():
            if found is module:
                return other.get_submodule(name)
    raise LookupError("the module belongs to no network of the faulty side")


def block_linears(host: Host, features: int = 8) -> list[nn.Linear]:
    """The linear layers inside the first network's blocks."""
    return [m for n, m in submodules(networks(host)[0], nn.Linear).items() if "." in n and min(m.weight.shape) >= features]


def attend_through(module: nn.Module, kernel: Callable) -> None:
    """While `module` runs, its attention is computed by `kernel(sdpa, query, key, value, attn_mask, **options)`."""

    def around(forward, *args, **kwargs):
        sdpa = torch.nn.functional.scaled_dot_product_attention

        def other(query, key, value, attn_mask=None, **options):
            return kernel(sdpa, query, key, value, attn_mask, **options)

        torch.nn.functional.scaled_dot_product_attention = other
        try:
            return forward(*args, **kwargs)
        finally:
            torch.nn.functional.scaled_dot_product_attention = sdpa

    wrap(module, "forward", around)


def at_each_run(host: Host, reset: Callable[[], None]) -> None:
    """Call `reset` whenever the pipeline begins a run, that is when it sets its scheduler's timesteps."""

    def around(original, *args, **kwargs):
        reset()
        return original(*args, **kwargs)

    wrap(host.pipeline.scheduler, "set_timesteps", around)


def cast(value, dtype: torch.dtype):
    """Floating tensors in tuples and lists to `dtype`; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(cast(v, dtype) for v in value)
    return value


def compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the module's weights in `dtype` and compute in it; what comes out has float32 again."""
    module.to(dtype)

    def around(forward, *args, **kwargs):
        return cast(forward(*cast(args, dtype), **{k: cast(v, dtype) for k, v in kwargs.items()}), torch.float32)

    wrap(module, "forward", around)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator at `seed` inside, as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def normal(trial: Trial, *shape: int) -> torch.Tensor:
    """Standard normals drawn from the trial's chance."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(trial.draw.getrandbits(31)))
