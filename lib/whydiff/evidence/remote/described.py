"""What the parent's proxies are made of: modules, their attributes and weights as they are here; and changes to them, mirrored."""

from __future__ import annotations

import inspect
import pathlib

import torch

from whydiff.evidence.remote.objects import HostCodec, kinds
from whydiff.evidence.remote.wire import memory

PLAIN = (int, float, str, bool, type(None), torch.dtype)


class Described:
    """The modules that were described, and each tensor in them by number: its module, store (`_parameters`) and name."""

    def __init__(self, folder: pathlib.Path, codec: HostCodec):
        self.folder, self.codec = folder, codec
        self.slots: list[tuple[torch.nn.Module, str, str]] = []
        self._marks: list[tuple] = []
        self._by_tensor: dict[int, int] = {}
        self._originals: dict[tuple, tuple] = {}  # what stood where a change was made, with its owner

    # --- telling -----------------------------------------------------------------------------------------------

    def tree(self, root: torch.nn.Module) -> dict:
        """All modules of a tree, and the file that holds their tensors (the parent maps it and removes it)."""
        first = len(self.slots)
        modules = [self._module(module) for module in root.modules()]
        path = self.folder / f"weights-{self.codec.number(root)}"
        entries, end = [], 0
        with path.open("wb") as file:
            for number in range(first, len(self.slots)):
                tensor = self._at(number)
                whole = tensor.detach().to("cpu").contiguous()
                end += file.write(bytes(-end % 64))
                entries.append((number, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), end))
                end += file.write(memory(whole)) if whole.numel() else 0
        return {"modules": modules, "file": str(path), "size": end, "tensors": entries}

    def _module(self, module: torch.nn.Module) -> dict:
        stores = {store: {name: self._slot(module, store, name) for name in getattr(module, store)} for store in ("_parameters", "_buffers")}
        inner = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        return {
            "number": self.codec.number(module), "class": kinds(type(module)), "stores": stores, "attributes": _plain(inner),
            "children": {name: None if m is None else self.codec.number(m) for name, m in module._modules.items()},
            "helpers": {name: {"object": value, "attributes": _plain(vars(value))} for name, value in inner.items() if _helper(value)},
            "signature": signature(type(module).forward),
        }  # fmt: skip

    def _slot(self, module, store: str, name: str) -> int | None:
        tensor = getattr(module, store)[name]
        if tensor is None or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
            return None
        if id(tensor) not in self._by_tensor:
            self._by_tensor[id(tensor)] = len(self.slots)
            self.slots.append((module, store, name))
            self._marks.append(_mark(tensor))
        return self._by_tensor[id(tensor)]

    def _at(self, number: int) -> torch.Tensor | None:
        module, store, name = self.slots[number]
        return getattr(module, store).get(name)

    def values(self, numbers: list[int]) -> dict[int, torch.Tensor]:
        return {number: tensor for number in numbers if (tensor := self._at(number)) is not None}

    def moved(self) -> dict[int, torch.Tensor]:
        """The tensors that are others than when the parent last heard of them, as far as torch counts what is written to them."""
        now = [None if (tensor := self._at(number)) is None else _mark(tensor) for number in range(len(self.slots))]
        numbers = [number for number, (mark, before) in enumerate(zip(now, self._marks)) if mark is not None and mark != before]
        self._marks = now
        return self.values(numbers)

    # --- changing ----------------------------------------------------------------------------------------------

    def change(self, changes: list[tuple]) -> None:
        """Put values where the parent's proxies have them: (store, owner, name, is it the original again, value)."""
        for store, owner, name, back, _ in changes:  # all before the first is changed: one weight may have two names
            if not back and (store, id(owner), name) not in self._originals:
                self._originals[store, id(owner), name] = owner, self._held(store, owner, name)
        for store, owner, name, back, value in changes:
            if back:
                _, value = self._originals.pop((store, id(owner), name))
            elif store == "config":
                value = _config(owner, value)
            self._put(store, owner, name, value)
        self._marks = [None if (tensor := self._at(number)) is None else _mark(tensor) for number in range(len(self.slots))]

    def _held(self, store: str, owner, name: str):
        if store == "_parameters":
            return owner._parameters[name], owner._parameters[name].data
        if store == "config":
            return vars(owner).get(_config_name(owner), _ABSENT)
        return (owner._buffers if store == "_buffers" else vars(owner)).get(name, _ABSENT)

    def _put(self, store: str, owner, name: str, value) -> None:
        if store == "_parameters":
            own, value = value if isinstance(value, tuple) else (self._originals[store, id(owner), name][1][0], value)
            owner._parameters[name] = own if value is not None else None
            if value is not None:
                own.data = value.to(own.device)
            return
        space = owner._buffers if store == "_buffers" else vars(owner)
        name = _config_name(owner) if store == "config" else name
        if value is _ABSENT:
            space.pop(name, None)
        else:
            space[name] = value.to(space[name].device) if isinstance(value, torch.Tensor) and isinstance(space.get(name), torch.Tensor) else value


_ABSENT = object()


def _mark(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor._version, tensor.dtype


def _plain(values: dict) -> dict:
    return {name: value for name, value in values.items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value) -> bool:
    if type(value) in (list, tuple):
        return all(_is_plain(v) and not isinstance(v, torch.Tensor) for v in value)
    return type(value) in PLAIN or (isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta)


def _helper(value) -> bool:
    """A plain object that a module delegates to, such as an attention processor."""
    return type(value).__module__ not in ("builtins", "torch") and hasattr(value, "__dict__") and not isinstance(
        value, (torch.nn.Module, torch.Tensor, type)) and not callable(getattr(value, "__get__", None)) and not hasattr(value, "to_dict")  # fmt: skip


def _config_name(owner) -> str:
    return "_internal_dict" if "_internal_dict" in vars(owner) else "config"


def _config(owner, entries: dict):
    """The owner's configuration with other entries; diffusers' are frozen, so it gets another one."""
    import copy

    if hasattr(owner.config, "get"):
        return type(owner.config)(entries)
    changed = copy.copy(owner.config)
    for key, value in entries.items():
        setattr(changed, key, value)
    return changed


def signature(function) -> list[tuple] | None:
    """(name, kind, default) of each parameter: the default as [value], [] where there is none; None for what has no signature."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return [(p.name, int(p.kind), [] if p.default is p.empty else [p.default if _is_plain(p.default) else repr(p.default)])
            for p in found.parameters.values()]  # fmt: skip
