"""How a run calls its scheduler: the arguments of `set_timesteps` and of each `step`, as far as JSON can hold them.

With them and the scheduler's configuration a schedule and every update can be computed again without the pipeline.
"""

from __future__ import annotations

import inspect

import torch

_LISTS = 2048  # entries of a list of sigmas or timesteps that are kept


def named_signature(function, declared) -> inspect.Signature:
    """The named parameters of a method; those of its class's own (`declared`) where a wrapper only says *args, **kwargs."""
    signature = inspect.signature(function)
    if all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        declared = inspect.signature(declared)
        return declared.replace(parameters=list(declared.parameters.values())[1:])
    return signature


def note_timesteps(trace, scheduler, original, args, kwargs) -> None:
    """`calls["set_timesteps"]`: its arguments by name, of the last call; `calls["steps"]` starts anew with it."""
    try:
        given = named_signature(original, type(scheduler).set_timesteps).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return
    plain = {name: _plain(value) for name, value in given.items() if name != "device"}
    trace.calls["set_timesteps"] = {name: value for name, value in plain.items() if value is not None}
    trace.calls.pop("steps", None)


def note_step(trace, scheduler, given: dict) -> None:
    """`calls["steps"]`: for each step its `timestep`, the numbers passed beside it, and the list index it begins at."""
    entry = {name: _plain(value) for name, value in given.items() if name not in ("model_output", "sample", "generator", "return_dict")}
    entry = {name: value for name, value in entry.items() if value is not None}
    index = getattr(scheduler, "_step_index", None)
    index = getattr(scheduler, "_begin_index", None) if index is None else index
    if isinstance(index, int):
        entry["index"] = index
    trace.calls.setdefault("steps", []).append(entry)


def _plain(value):
    """A number, or a list of numbers; None for anything else."""
    if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [float(v) for v in value] if len(value) <= _LISTS and all(isinstance(v, (int, float)) for v in value) else None
    return value if isinstance(value, (bool, int, float, str)) else None
