"""Which numbers, words, flags, functions and tensors that a module computes with differ between its two sides?"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import types
from typing import Any

import torch

from whydiff.evidence.recording.calls import made_alike

PLAIN = (int, float, str, bool, type(None), torch.dtype, enum.Enum)
# Bookkeeping of torch and of module loading, no input of a computation.
IGNORED = {"training_step", "gradient_checkpointing", "layer_idx", "call_super_init", "dump_patches"}


@dataclasses.dataclass(frozen=True)
class Difference:
    """One entry that differs: where it is kept (`owners` by role, `store`: "attribute", "_parameters" or "_buffers")."""

    path: str  # dotted from the module: `norm1.eps`, `processor.scale`
    key: str
    store: str
    owners: dict[str, Any]
    values: dict[str, Any]

    @property
    def is_tensor(self) -> bool:
        return all(isinstance(value, torch.Tensor) for value in self.values.values())

    @contextlib.contextmanager
    def repaired(self, role: str = "candidate"):
        """The other side's value at `role`, for as long as the context lasts."""
        other = self.values["reference" if role == "candidate" else "candidate"]
        with placed(self.owners[role], self.store, self.key, other):
            yield


@contextlib.contextmanager
def placed(owner, store: str, key: str, value):
    """`value` in a store of `owner`; tensors of parameters are exchanged below autograd, so that ties stay tied."""
    if store == "_parameters":
        parameter, before = owner._parameters[key], owner._parameters[key].data
        parameter.data = value.detach().clone()
        try:
            yield
        finally:
            parameter.data = before
        return
    if store == "config":
        with _config(owner, key, value):
            yield
        return
    space = owner._buffers if store == "_buffers" else owner.__dict__
    absent = object()
    before = space.get(key, absent)
    space[key] = value.detach().clone() if isinstance(value, torch.Tensor) else value
    try:
        yield
    finally:
        if before is absent:
            del space[key]
        else:
            space[key] = before


@contextlib.contextmanager
def _config(owner, key, value):
    """A config entry that code reads while it runs; diffusers' configurations are frozen, so the holder gets another one."""
    import copy

    config = owner.config
    changed = copy.copy(config)
    name = "_internal_dict" if "_internal_dict" in vars(owner) else "config"
    if hasattr(config, "get"):
        entries = dict(config) | {key: value}
        changed = type(config)(entries)
    else:
        setattr(changed, key, value)
    before = vars(owner).get(name)
    object.__setattr__(owner, name, changed)
    try:
        yield
    finally:
        object.__setattr__(owner, name, before) if before is not None else object.__delattr__(owner, name)


def differences(reference: torch.nn.Module, candidate: torch.nn.Module) -> list[Difference]:
    """All entries that differ between two modules and the modules inside them with the same names, flags and words first."""
    found: list[Difference] = []
    theirs = dict(candidate.named_modules())
    for path, mine in reference.named_modules():
        other = theirs.get(path)
        if other is not None:
            found += _of_pair(path, mine, other)
    return sorted(found, key=lambda d: (d.is_tensor, d.key != "training", d.path.count(".")))


def _of_pair(path: str, mine, other) -> list[Difference]:
    prefix = f"{path}." if path else ""
    found = [Difference(prefix + key, key, "attribute", {"reference": a, "candidate": b}, {"reference": x, "candidate": y})
             for a, b in [(mine, other), *_helpers(mine, other)] for key, x, y in _plain(a, b)]  # fmt: skip
    for store in ("_parameters", "_buffers"):
        a, b = getattr(mine, store, {}), getattr(other, store, {})
        found += [Difference(prefix + key, key, store, {"reference": mine, "candidate": other},
                             {"reference": a[key].detach(), "candidate": b[key].detach()})
                  for key in a if a[key] is not None and b.get(key) is not None and not _same(a[key], b[key])]  # fmt: skip
    found += [Difference(prefix + f"config.{key}", key, "config", {"reference": mine, "candidate": other}, {"reference": x, "candidate": y})
              for key, x, y in _configs(mine, other)]  # fmt: skip
    return found


def _helpers(mine, other):
    """Plain objects that modules delegate to, such as attention processors."""
    for key, value in vars(mine).items():
        theirs = vars(other).get(key)
        if key.startswith("_") or value is None or theirs is None or isinstance(value, (torch.nn.Module, torch.Tensor, type)):
            continue
        if type(value).__module__ != "builtins" and hasattr(value, "__dict__") and made_alike(value, theirs) and "config" not in key:
            yield value, theirs


def _plain(mine, other):
    """(key, reference's, candidate's) of instance attributes that differ and can decide a computation."""
    a, b = vars(mine), vars(other)
    for key in a:
        if key.startswith("_") or key in IGNORED or key not in b:
            continue
        x, y = a[key], b[key]
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            if not _same(x, y):
                yield key, x.detach(), y.detach()
        elif isinstance(x, PLAIN) and isinstance(y, PLAIN) or (_plain_list(x) and _plain_list(y)):
            if x != y or type(x) is not type(y) and not isinstance(x, (int, float)):
                yield key, x, y
        elif _is_function(x) and _is_function(y) and x is not y and getattr(x, "__qualname__", x) != getattr(y, "__qualname__", y):
            if key != "forward":
                yield key, x, y


def _configs(mine, other):
    a, b = getattr(mine, "config", None), getattr(other, "config", None)
    if a is None or b is None or not made_alike(a, b):
        return
    a, b = (dict(c) if hasattr(c, "get") and hasattr(c, "items") else vars(c) for c in (a, b))
    for key in a:
        if not str(key).startswith("_") and key in b and isinstance(a[key], PLAIN) and isinstance(b[key], PLAIN) and a[key] != b[key]:
            yield key, a[key], b[key]


def _plain_list(value) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, PLAIN) for v in value)


def _is_function(value) -> bool:
    return isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType))


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b))
