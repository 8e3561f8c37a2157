"""One run of a healthy pipeline without a recorder and one with it: whatever differs afterwards is returned by name.

`python observed.py` tries every host, every way to record, float32 on two threads and bfloat16 on one, and runs that raise.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import pathlib
import random
import sys
import tempfile

import diffusers.utils.torch_utils
import numpy as np
import torch

import whydiff
from whydiff.evidence.recording.standalone import recording
from whydiff.faults.hosts import HOSTS, host
from whydiff.measure.pictures import to_image

# What a recorder may have its fingers in: a patched function is another object.
NAMESPACES = (torch, torch.nn, torch.nn.functional, torch.nn.Module, torch.Tensor, torch.Generator, random, np.random, diffusers.utils.torch_utils)
HOW = ("memory", "modules", "folder", "fingerprint", "around")


def changes(kind: str, how: str, dtype: torch.dtype = torch.float32, threads: int = 1, raising: bool = False) -> list[str]:
    """What recording changed in a run of the host `kind`, by name; empty where it changed nothing.

    `how` is one of HOW: probes kept in memory; every module besides; every module into a folder; its fingerprints; everything
    that is called inside a context. With `raising` the run ends in an exception and only what is left behind is compared.
    """
    # Compared with a first run of its own, as the first call of a pipeline may change it (caches, `_interrupt`, ...).
    alone, watched = host(kind), host(kind)
    torch.set_num_threads(threads)
    try:
        outcomes = [run(made, context, dtype, raising) for made, context in ((alone, nothing), (watched, by(how)))]
    finally:
        torch.set_num_threads(1)
    return [name for name in sorted(outcomes[0].keys() | outcomes[1].keys()) if outcomes[0].get(name) != outcomes[1].get(name)]


def run(made, context, dtype: torch.dtype, raising: bool) -> dict:
    """Everything a run gave and left behind, by name, as values that == compares."""
    pipeline = made.pipeline
    for part in modules_of(pipeline).values():
        part.to(dtype)
    call = arguments(made)
    if raising:
        part = next(m for name, m in modules_of(pipeline).items() if name in ("transformer", "unet"))
        part.register_forward_hook(stop)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = {name: id(value) for space in NAMESPACES for name, value in named(space)}
    grad = torch.is_grad_enabled()
    output = None
    with torch.autocast("cpu", torch.bfloat16, enabled=False), context(pipeline), contextlib.suppress(KeyboardInterrupt):
        output = pipeline(**call)
    left = {"rng python": random.getstate(), "rng numpy": repr(np.random.get_state()), "rng torch": digest(torch.get_rng_state()),
            "grad mode": torch.is_grad_enabled() == grad, "inference mode": torch.is_inference_mode_enabled(),
            "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")), "default dtype": torch.get_default_dtype(),
            "deterministic": torch.are_deterministic_algorithms_enabled(), "threads": torch.get_num_threads(),
            "functions": [name for space in NAMESPACES for name, value in named(space) if before.get(name) != id(value)],
            "call": {key: digest(value) for key, value in call.items()}}  # fmt: skip
    if output is not None:
        image, _bits = to_image(output)
        left |= {"output": digest(image), "output strides": image.stride(), "output dtype": image.dtype}
    for name, part in modules_of(pipeline).items():
        left |= {f"{name} {what}": value for what, value in of_module(part).items()}
    left["attributes"] = sorted(vars(pipeline))
    left["parts"] = {key: sorted(vars(part)) for key, part in (getattr(pipeline, "components", None) or {}).items() if hasattr(part, "__dict__")}
    return left


def of_module(part: torch.nn.Module) -> dict:
    """Weights, buffers, layout, hooks, training mode and attributes of a network and all its modules."""
    tensors = dict(part.named_parameters()) | dict(part.named_buffers())
    return {"weights": {name: digest(t) for name, t in tensors.items()}, "strides": {name: t.stride() for name, t in tensors.items()},
            "requires_grad": {name: t.requires_grad for name, t in tensors.items()},
            "hooks": {n: tuple(len(v) for k, v in sorted(vars(m).items()) if k.endswith("_hooks")) for n, m in part.named_modules()},
            "training": {n: m.training for n, m in part.named_modules()}, "fields": {n: sorted(vars(m)) for n, m in part.named_modules()},
            "kinds": {n: type(m) for n, m in part.named_modules()}}  # fmt: skip


def by(how: str):
    """The recorder of one of HOW, as a context over a pipeline."""

    @contextlib.contextmanager
    def context(pipeline):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            out = pathlib.Path(folder) / "t"
            if how == "around":
                stack.enter_context(recording(out))
            elif how == "memory":
                stack.enter_context(whydiff.record(pipeline))
            elif how == "modules":
                stack.enter_context(whydiff.record(pipeline, modules=["*"]))
            else:
                stack.enter_context(whydiff.record(pipeline, out, modules=["*"], level="fingerprint" if how == "fingerprint" else "full"))
            yield

    return context


@contextlib.contextmanager
def nothing(_pipeline):
    yield


def stop(*_):
    raise KeyboardInterrupt


def modules_of(pipeline) -> dict[str, torch.nn.Module]:
    parts = getattr(pipeline, "components", None) or {}
    return {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}


def arguments(made) -> dict:
    given, takes = copy.deepcopy(made.call), inspect.signature(made.pipeline).parameters
    seed, device = given.pop("seed", 0), given.pop("generator_device", "cpu")
    return given | ({"seed": seed} if "seed" in takes else {"generator": torch.Generator(device).manual_seed(seed)})


def named(space):
    return [(f"{getattr(space, '__name__', space)}.{name}", value) for name, value in vars(space).items() if callable(value)]


def digest(value):
    """Something that == tells apart bit for bit."""
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, torch.Tensor):
        plain = value.detach().contiguous()
        return tuple(plain.shape), str(plain.dtype), plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, (list, tuple)):
        return [digest(v) for v in value]
    return value.tobytes() if hasattr(value, "tobytes") else repr(value) if not isinstance(value, (str, int, float, bool, type(None))) else value


RUNS = [(torch.float32, 2, False), (torch.bfloat16, 1, False), (torch.float32, 1, True)]  # dtype, threads, whether it raises


def every_way() -> int:
    """Print what was tried and what was found; 1 where recording changed anything."""
    found, tried, left_out = [], 0, set()
    for kind, (dtype, threads, raising) in itertools.product(HOSTS, RUNS):
        try:
            run(host(kind), nothing, dtype, raising)
        except RuntimeError:  # pipelines that cannot run in this dtype by themselves
            left_out.add(f"{kind} in {dtype}")
            continue
        for how in HOW:
            tried += 1
            found += [f"{kind}, {how}, {dtype}, {threads} threads, {raising=}: {name}" for name in changes(kind, how, dtype, threads, raising)]
        print(f"{kind} {dtype} {raising=}: {len(found)} changes in {tried} recorded runs", flush=True)
    print(*found, f"{tried} recorded runs, {len(found)} changes; cannot run at all: {', '.join(sorted(left_out)) or 'none'}", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(every_way())
