"""What a side holds when it has just been loaded, and how it gets that back after it was run.

A run leaves much behind: a scheduler's timesteps, a tokenizer's padding, a table kept for one size. Whoever uses a loaded side for
another case puts it back first, and then looks whether its fingerprint is the first one: what cannot be put back shows there.
"""

from __future__ import annotations

import collections
import functools
import inspect
import logging
import os
import pathlib
import sys
import types
from typing import Any

import torch

from whydiff.measure.tensors import raw_bytes

KEPT_BYTES = 256 << 20  # of tensors that are no weights: beyond it no copies are kept, and a change shows in the fingerprint
_PLAIN = (str, bytes, int, float, bool, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, logging.Logger,
          torch.dtype, torch.device, torch.Size)  # fmt: skip


class AsLoaded:
    """The containers, attributes and small tensors that can be reached from `subject`, as they are now."""

    _room = KEPT_BYTES

    def __init__(self, subject):
        self._found: dict[int, tuple[Any, Any, Any]] = {}  # id -> (object, how to put it back, what it held)
        self._look([subject])

    def _look(self, waiting: list) -> None:
        while waiting:
            value = waiting.pop()
            if isinstance(value, _PLAIN) or id(value) in self._found:
                continue
            put, held, inner = _held(value, self._room)
            if isinstance(held, torch.Tensor):
                self._room -= held.numel() * held.element_size()
            self._found[id(value)] = value, put, held
            waiting += inner

    def put_back(self) -> None:
        for value, put, held in self._found.values():
            if put is not None:
                put(value, held)


class FilesAsLoaded(AsLoaded):
    """What the files in a folder that are imported hold for the whole process: globals, and attributes of their classes.

    It cannot be put back, as both sides of a case may live in one file; but whether it is as it was can be told.
    """

    def __init__(self, folder: pathlib.Path):
        self.modules = files_of(folder)
        self._found = {}
        self._classes = [(kind, dict(vars(kind))) for module in self.modules for kind in vars(module).values()
                         if isinstance(kind, type) and kind.__module__ == module.__name__]  # fmt: skip
        held = [{name: value for name, value in vars(module).items() if not name.startswith("__")} for module in self.modules]
        self._globals = list(zip(self.modules, held))
        self._look([value for names in [*held, *(names for _, names in self._classes)] for value in names.values()])

    def changed(self) -> bool:
        for module, held in self._globals:
            now = {name: value for name, value in vars(module).items() if not name.startswith("__")}
            if not _same_items(now, held):
                return True
        if any(not _same_items(dict(vars(kind)), held) for kind, held in self._classes):
            return True
        return any(put is not None and _held_now(value) != _told(held) for value, put, held in self._found.values())


def files_of(folder: pathlib.Path) -> list[types.ModuleType]:
    """The modules that were imported from a folder or below it."""
    inside = str(folder.resolve()) + os.sep
    return [module for module in list(sys.modules.values()) if str(getattr(module, "__file__", None) or "").startswith(inside)]


def _same_items(one: dict, other: dict) -> bool:
    return len(one) == len(other) and all(name in other and other[name] is value for name, value in one.items())


def _held_now(value):
    return _told(_held(value, KEPT_BYTES)[1])


def _told(held):
    """What a container holds, by identity; of a tensor its values."""
    if isinstance(held, torch.Tensor):
        return held.dtype, tuple(held.shape), raw_bytes(held) if held.numel() else b""
    if isinstance(held, list):
        return [(id(one[0]), id(one[1])) if isinstance(one, tuple) and len(one) == 2 else id(one) for one in held]
    return {id(one) for one in held} if isinstance(held, set) else held if isinstance(held, tuple) else id(held)


def _held(value, room: int) -> tuple[Any, Any, list]:
    """(how it is put back, a copy of what it holds now, what to look into next). `room`: bytes that the copy of a tensor may take."""
    if isinstance(value, torch.Tensor):
        keeps = not isinstance(value, torch.nn.Parameter) and not value.is_meta and value.numel() * value.element_size() <= room
        return (_put_tensor, value.detach().clone(), []) if keeps else (None, None, [])
    if isinstance(value, torch.Generator):
        return torch.Generator.set_state, value.get_state(), []
    if isinstance(value, (collections.OrderedDict, dict)):
        return _put_dict, list(value.items()), [*value.keys(), *value.values()]
    if isinstance(value, (list, collections.deque)):
        return _put_list, list(value), list(value)
    if isinstance(value, set):
        return _put_set, set(value), list(value)
    if isinstance(value, (tuple, frozenset)):
        return None, None, list(value)
    if isinstance(value, types.CellType):
        return (_put_cell, value.cell_contents, [value.cell_contents]) if _filled(value) else (None, None, [])
    if inspect.ismethod(value):
        return None, None, [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return None, None, [value.func, value.args, value.keywords]
    if type(value).__module__.partition(".")[0] == "tokenizers" and hasattr(value, "enable_padding"):
        return _put_tokenizer, (value.padding, value.truncation), []
    attributes = getattr(value, "__dict__", None)
    inner = [attributes] if isinstance(attributes, dict) else []
    if inspect.isfunction(value):
        inner += [*(value.__closure__ or ()), value.__defaults__, value.__kwdefaults__]
    return None, None, inner


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _put_tensor(tensor: torch.Tensor, held: torch.Tensor) -> None:
    if tensor.shape == held.shape and tensor.dtype == held.dtype and not torch.equal(tensor, held):
        with torch.no_grad():
            tensor.copy_(held)


def _put_dict(mapping: dict, items: list) -> None:
    """By the base classes' own methods: a configuration refuses to be changed, and need not be where nothing changed."""
    now = list(mapping.items())
    if len(now) == len(items) and all(a is c and b is d for (a, b), (c, d) in zip(now, items)):
        return
    kind = collections.OrderedDict if isinstance(mapping, collections.OrderedDict) else dict
    kind.clear(mapping)
    for key, value in items:
        kind.__setitem__(mapping, key, value)


def _put_list(sequence, items: list) -> None:
    if len(sequence) != len(items) or any(a is not b for a, b in zip(sequence, items)):
        sequence.clear()
        sequence.extend(items)


def _put_set(held: set, items: set) -> None:
    if held != items:
        held.clear()
        held.update(items)


def _put_cell(cell: types.CellType, contents) -> None:
    if not _filled(cell) or cell.cell_contents is not contents:
        cell.cell_contents = contents


def _put_tokenizer(tokenizer, held: tuple) -> None:
    """Padding and truncation, which a tokenizer keeps from its last call."""
    padding, truncation = held
    tokenizer.no_padding() if padding is None else tokenizer.enable_padding(**padding)
    tokenizer.no_truncation() if truncation is None else tokenizer.enable_truncation(**truncation)
