"""How each process speaks of the other's objects: modules by number, outputs by their fields, anything else by a handle."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping

import torch

from whydiff.evidence.remote.wire import Codec

# Methods by which an experiment knows a cache of keys and values when it sees one.
TOLD_METHODS = ("update", "get_seq_length")


class HostCodec(Codec):
    """The child's: gives out numbers and handles, and knows what they stand for."""

    def __init__(self):
        super().__init__()
        self.modules: list[torch.nn.Module] = []
        self.held: list = []  # kept alive: a handle is only unique among living objects
        self._numbers: dict[int, int] = {}
        self._handles: dict[int, int] = {}

    def number(self, module: torch.nn.Module) -> int:
        if id(module) not in self._numbers:
            self._numbers[id(module)] = len(self.modules)
            self.modules.append(module)
        return self._numbers[id(module)]

    def handle(self, value) -> int:
        if isinstance(value, types.MethodType):  # made anew by each look at it
            self.held.append(value)
            return len(self.held) - 1
        if id(value) not in self._handles:
            self._handles[id(value)] = len(self.held)
            self.held.append(value)
        return self._handles[id(value)]

    def foreign(self, value, tensors):
        if isinstance(value, torch.nn.Module):
            return {"module": self.number(value)}
        kind = type(value)
        fields = _fields(value)
        if fields is not None:
            return {"fields": [[k, self.pack(v, tensors)] for k, v in fields.items()], "type": self.handle(kind), "class": kinds(kind)}
        if isinstance(value, Mapping):  # a frozen configuration, say
            items = [[self.pack(k, tensors), self.pack(v, tensors)] for k, v in value.items()]
            return {"mapping": items, "handle": self.handle(value), "class": kinds(kind)}
        methods = [name for name in TOLD_METHODS if callable(getattr(kind, name, None))]
        return {"handle": self.handle(value), "class": kinds(kind), "methods": methods}

    def made(self, data, tensors):
        if "module" in data:
            return self.modules[data["module"]]
        if "fields" in data:
            return self.held[data["type"]](**{k: self.unpack(v, tensors) for k, v in data["fields"]})
        return self.held[data["handle"]]


def kinds(kind: type) -> list[list[str]]:
    """[module, qualified name] of a class and of all it derives from."""
    return [[k.__module__, k.__qualname__] for k in kind.__mro__]


def _fields(value) -> dict | None:
    """What the output of a model or scheduler holds, by name: a dataclass whose class can be called with just that."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    names = [field.name for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        names = [name for name in names if name in value]
    return {name: getattr(value, name) for name in names}
