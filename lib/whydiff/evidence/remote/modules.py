"""The parent's proxies of the child's objects. A module's proxy is a module: with the same names, weights and attributes.

Calling one calls the module in the child, hooks on proxies included. Weights and plain attributes are copies here; what an
experiment changes in them is mirrored before the next call or run, and so is its undoing.
"""

from __future__ import annotations

import functools
import inspect

import torch
from torch.utils._pytree import register_pytree_node

from whydiff.evidence.remote.wire import Codec

SESSION = "_whydiff_session"
NUMBER = "_whydiff_number"


class ParentCodec(Codec):
    """The parent's: proxies for what the child speaks of."""

    def __init__(self, session):
        super().__init__()
        self.session = session

    def foreign(self, value, tensors):
        if isinstance(value, ModuleProxy):
            return {"module": vars(value)[NUMBER]}
        if isinstance(value, (ObjectProxy, Mapped, Helper)):
            return {"handle": vars(value)[NUMBER]}
        if isinstance(value, Output):
            return {"fields": [[k, self.pack(v, tensors)] for k, v in value.items()], "type": value._type}
        raise TypeError(f"a {type(value).__qualname__} cannot be sent to another interpreter")

    def made(self, data, tensors):
        if "module" in data:
            return self.session.module(data["module"])
        if "fields" in data:
            return Output({k: self.unpack(v, tensors) for k, v in data["fields"]}, data["type"], data["class"])
        if "mapping" in data:
            return _class(Mapped, data["class"])({self.unpack(k, tensors): self.unpack(v, tensors) for k, v in data["mapping"]}, data["handle"])
        return _class(ObjectProxy, data["class"])(self.session, data["handle"], data.get("methods", ()))


def _class(base: type, classes: list) -> type:
    """A class of proxies that says of itself what the child's class says: module, name, and names of what it derives from."""
    return _made_class(base, tuple(map(tuple, classes)))


@functools.cache
def _made_class(base: type, classes: tuple) -> type:
    module, name = classes[0]
    return type(name.rpartition(".")[2], (base,), {"__module__": module, "__qualname__": name})


class Mapped(dict):
    """A configuration of the child's: its entries, also as attributes."""

    elsewhere = True

    def __init__(self, entries, number: int | None = None):
        super().__init__(entries)
        self.__dict__[NUMBER] = number

    def __getattr__(self, name):
        if name in self and not name.startswith("__"):
            return self[name]
        raise AttributeError(name)


class Helper:
    """A plain object that a module of the child delegates to: its plain attributes."""

    elsewhere = True


class Output(dict):
    """The child's output of a model: its fields by name, as attributes or by position."""

    def __init__(self, fields: dict, type_: int, classes: list):
        super().__init__(fields)
        self.__dict__.update(_type=type_, _classes=classes)

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self[name] = value

    def __getitem__(self, key):
        return dict.__getitem__(self, key) if isinstance(key, str) else list(self.values())[key]


register_pytree_node(
    Output,
    lambda output: (list(output.values()), (list(output), output._type, output._classes)),
    lambda values, context: Output(dict(zip(context[0], values)), *context[1:]),
)


class ObjectProxy:
    """Anything else that the child holds: attributes are asked for as they are needed."""

    elsewhere = True  # recorders leave it to the child to listen

    def __init__(self, session, number: int, methods=()):
        vars(self).update({SESSION: session, NUMBER: number, **dict.fromkeys(methods, _not_here)})

    def __getattr__(self, name):
        if name.startswith("__") or name in (SESSION, NUMBER):
            raise AttributeError(name)
        return vars(self)[SESSION].ask("get", (self, name))

    def __setattr__(self, name, value):
        vars(self)[SESSION].ask("set", (self, name, value))

    def __call__(self, *args, **kwargs):
        return vars(self)[SESSION].call(self, args, kwargs)

    def __getitem__(self, key):
        return vars(self)[SESSION].ask("item", (self, key))

    def __len__(self):
        return vars(self)[SESSION].ask("length", self)

    def __deepcopy__(self, _memo):
        return vars(self)[SESSION].ask("copy", self)

    def __bool__(self):
        return True

    @property
    def __signature__(self):
        return signature(vars(self)[SESSION].ask("signature", self))


def _not_here(*_args, **_kwargs):
    raise TypeError("this object is in another interpreter")


class ModuleProxy(torch.nn.Module):
    """A module of the child's. What is not held here (methods, configurations) is asked for."""

    elsewhere = True

    def __call__(self, *args, **kwargs):  # its hooks fire in the child, among those of the modules around and inside it
        return vars(self)[SESSION].call(self, args, kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or SESSION not in vars(self):
                raise
            return vars(self)[SESSION].ask("get", (self, name))


@functools.cache
def _module_class(classes: tuple, parameters: tuple | None) -> type:
    module, name = classes[0]
    torchs = next((getattr(torch.nn, n) for m, n in classes if m.startswith("torch.nn.modules.") and hasattr(torch.nn, n)), None)
    bases = (ModuleProxy,) if torchs in (None, torch.nn.Module) else (ModuleProxy, torchs)

    def forward(self, *args, **kwargs):  # without the module's own hooks, as anywhere
        return vars(self)[SESSION].call(self, args, kwargs, "forward")

    if parameters is not None:
        forward.__signature__ = signature(parameters)
    return type(name.rpartition(".")[2], bases, {"__module__": module, "__qualname__": name, "forward": forward})


def module(session, told: dict, tensors: dict[int, torch.Tensor]) -> ModuleProxy:
    """The proxy of one module, its children left empty. `tensors`: weights and buffers by number."""
    kind = _module_class(tuple(map(tuple, told["class"])), _frozen(told["signature"]))
    proxy = kind.__new__(kind)
    torch.nn.Module.__init__(proxy)
    vars(proxy).update({SESSION: session, NUMBER: told["number"], **told["attributes"]})
    for store, entries in told["stores"].items():
        getattr(proxy, store).update({name: None if number is None else tensors[number] for name, number in entries.items()})
    for name, helper in told["helpers"].items():
        made = helper["object"]
        kept = _class(Helper, [[type(made).__module__, type(made).__qualname__]])()
        vars(kept).update({NUMBER: vars(made)[NUMBER], **helper["attributes"]})
        vars(proxy)[name] = kept
    return proxy


def _frozen(told):
    return None if told is None else tuple((name, kind, tuple(map(_hashable, default))) for name, kind, default in told)


def _hashable(value):
    return tuple(map(_hashable, value)) if isinstance(value, list) else repr(value) if isinstance(value, torch.Tensor) else value


def signature(told) -> inspect.Signature:
    """The signature of a function of the child's. Raises ValueError, as `inspect` does, where it has none."""
    if told is None:
        raise ValueError("it has no signature")
    return inspect.Signature([inspect.Parameter(name, inspect._ParameterKind(kind), default=default[0] if default else inspect.Parameter.empty)
                              for name, kind, default in told])  # fmt: skip
