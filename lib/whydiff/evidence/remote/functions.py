"""Torch functions that a module in the child calls, made in the parent: there an experiment may watch them or change them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch.overrides import TorchFunctionMode, resolve_name

# Attributes and sizes compute nothing; where tensors live is the child's business.
LOCAL = {"__get__", "__set__", "size", "dim", "numel", "stride", "is_floating_point", "is_complex", "element_size", "get_device", "is_contiguous",
         "detach", "data_ptr", "storage_offset", "__len__", "__bool__", "item", "tolist", "__repr__", "__format__", "__index__", "__int__",
         "__float__", "requires_grad_", "is_inference", "is_same_size", "__hash__"}  # fmt: skip


class Forwarded(TorchFunctionMode):
    """Every call goes to `elsewhere(name, args, kwargs, site)`, which answers as `made_here` does."""

    def __init__(self, elsewhere: Callable):
        super().__init__()
        self.elsewhere = elsewhere

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = resolve_name(func)
        if name is None or getattr(func, "__name__", "") in LOCAL:
            return func(*args, **kwargs)
        result, which, written = self.elsewhere(name, args, kwargs, _site())
        held = _tensors((args, kwargs))
        with torch._C.DisableTorchFunction():
            for index, value in written:
                held[index].copy_(value)
        return result if which is None else held[which]


def _site() -> tuple[str, int]:
    """File and line of the code that calls, torch's own functions left out."""
    frame = sys._getframe(2)
    while frame is not None:
        if "/torch/" not in frame.f_code.co_filename:
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", 0


def made_here(name: str, args: tuple, kwargs: dict, site: tuple[str, int]):
    """The parent's part: call a function of torch by name, from a line of code that is called like the one in the child.

    Returns (result, which of the call's tensors it is, [(which tensor, its new values)] of those that were written to).
    """
    function, held = _resolved(name), _tensors((args, kwargs))
    versions = [value._version for value in held]
    file, line = site
    space = {"function": function, "args": args, "kwargs": kwargs}
    exec(compile("\n" * (max(line, 1) - 1) + "result = function(*args, **kwargs)", file or "<torch>", "exec"), space)
    written = [(i, value.detach().clone()) for i, (value, version) in enumerate(zip(held, versions)) if value._version != version]
    which = next((i for i, value in enumerate(held) if value is space["result"]), None)
    return None if which is not None else space["result"], which, written


def _resolved(name: str):
    parts = name.split(".")
    if parts[0] != "torch":
        raise TypeError(f"{name} is no function of torch")
    found = torch
    for part in parts[1:]:
        found = getattr(found, part)
    return found


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for entry in inner for tensor in _tensors(entry)]
