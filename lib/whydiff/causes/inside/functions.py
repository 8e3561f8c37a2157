"""Run a module with one of the torch functions it calls replaced by a variant of it.

Functions are caught with `torch.overrides.TorchFunctionMode`, so it matters neither how a module is built nor whose code
it is. A *site* is the place in the code that calls: both q and k pass through one line of a rotary embedding.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@dataclasses.dataclass(frozen=True)
class Seen:
    """One call of a torch function: its position in the run, name, line of code, and the shapes of its tensors."""

    index: int
    name: str
    site: tuple[str, int]
    function: Any
    shapes: tuple[tuple[int, ...], ...]
    args: tuple
    kwargs: dict
    result: Any


class Watch(TorchFunctionMode):
    """Notes the calls (with `seen`), or replaces those for which `choose(index, name, site)` gives a variant."""

    def __init__(self, seen: list[Seen] | None = None, choose: Callable | None = None):
        super().__init__()
        self.seen, self.choose, self.count = seen, choose, 0
        self.applied = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in PASSIVE:
            return func(*args, **kwargs)
        index, site = self.count, _site()
        self.count += 1
        variant = self.choose(index, name, site) if self.choose is not None else None
        if variant is not None:
            self.applied += 1
            return variant(func, *args, **kwargs)
        result = func(*args, **kwargs)
        if self.seen is not None:
            shapes = tuple(tuple(a.shape) for a in _flat((*args, *kwargs.values())) if isinstance(a, torch.Tensor))
            self.seen.append(Seen(index, name, site, func, shapes, args, kwargs, result))
        return result


# Where an experiment's own code lies: what it calls is nothing that a side computes.
OURS = tuple(str(pathlib.Path(__file__).parents[2] / room) + os.sep for room in ("causes", "engine", "evidence"))
# Attributes and sizes: they compute nothing.
PASSIVE = {"__get__", "size", "dim", "numel", "stride", "is_floating_point", "is_complex", "element_size", "get_device", "shape",
           "is_contiguous", "contiguous", "detach", "data_ptr", "storage_offset", "__len__", "__bool__", "item", "tolist"}  # fmt: skip


def _flat(values):
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def _site() -> tuple[str, int]:
    """File and line of the code that calls, torch's own functions left out."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/torch/" not in file:
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0


def watched(run: Callable[[], Any]) -> list[Seen]:
    """The torch functions that `run` calls, in order."""
    seen: list[Seen] = []
    with Watch(seen):
        run()
    return seen


def with_variant(run: Callable[[], Any], choose: Callable) -> Any:
    """What `run` returns when the chosen calls are replaced; None if none was, or if the variant does not fit."""
    with Watch(choose=choose) as watch:
        try:
            output = run()
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError):
            return None
    return output if watch.applied else None
