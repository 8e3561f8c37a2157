"""The parent's end: the child's process, its proxies, and what has to be the same on both sides before anything runs there."""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from typing import NamedTuple

import torch

from whydiff.evidence.remote import modules
from whydiff.evidence.remote.child import Child
from whydiff.evidence.remote.functions import made_here
from whydiff.evidence.remote.modules import NUMBER, Helper, ModuleProxy
from whydiff.evidence.remote.wire import Gone, Link

BACK = object()  # instead of a value: what the child had before it was told of a change
CONFIGURATIONS = ("config", "_internal_dict")  # names under which a module may hold one


class Session:
    """A conversation with one child."""

    def __init__(self, child: Child):
        self.child = child
        self.link = Link(child.connection, modules.ParentCodec(self), self._answer, leads=True)
        self.proxies: dict[int, ModuleProxy] = {}
        self.tensors: dict[int, torch.Tensor] = {}
        self._told: dict[tuple, object] = {}  # (store, owner, name) -> what the child was last told of it
        self._known: dict[int, dict] = {}  # by proxy: its plain attributes as the child has them
        self.numbers: dict[tuple, int] = {}  # (store, number of the module, name) -> number of the tensor
        self._weights: dict[int, Held] = {}  # the values as the child has them
        self.recorder = None

    def __deepcopy__(self, _memo):
        return self

    def ask(self, kind: str, value=None):
        """Raises Trouble, with its last words, where the child has ended."""
        try:
            return self.link.ask(kind, value)
        except Gone:
            raise self.child.ended() from None
        except (KeyboardInterrupt, SystemExit):
            self.child.close()
            raise

    # --- what the child asks -----------------------------------------------------------------------------------

    def _answer(self, kind: str, value):
        return getattr(self, f"on_{kind}")(value)

    def on_observe(self, told: dict):
        recorder, tensor = self.recorder, told.pop("tensor")
        recorder.step, recorder.branch = told.pop("now")
        return recorder.observe(told.pop("name"), tensor, **told)

    def on_observe_absent(self, told: dict):
        return self.recorder.observe_absent(told.pop("name"), **told)

    def on_look(self, told):
        name, tensor, (self.recorder.step, self.recorder.branch) = told
        self.recorder.look(name, tensor)

    def on_function(self, told):
        with _modes(self._set_aside):
            return made_here(*told)

    def on_before(self, told):
        phase, module, args, kwargs, now = told
        self._now(now)
        given = args, kwargs
        for number, hook in list(module._forward_pre_hooks.items()):
            if self._meant(phase, number):
                keywords = number in module._forward_pre_hooks_with_kwargs
                result = hook(module, *given) if keywords else hook(module, given[0])
                if result is not None:
                    given = result if keywords else (result if isinstance(result, tuple) else (result,), given[1])
        return None if given[0] is args and given[1] is kwargs else given

    def on_after(self, told):
        phase, module, args, kwargs, output, now = told
        self._now(now)
        given = output
        for number, hook in list(module._forward_hooks.items()):
            if self._meant(phase, number):
                result = hook(module, args, kwargs, given) if number in module._forward_hooks_with_kwargs else hook(module, args, given)
                given = given if result is None else result
        return None if given is output else (given,)

    def _now(self, now) -> None:
        if self.recorder is not None and now is not None:
            self.recorder.step, self.recorder.branch = now

    def _meant(self, phase: str, number: int) -> bool:
        return phase == "call" or (number in self.earlier) == (phase == "before")

    # --- hooks on proxies --------------------------------------------------------------------------------------

    earlier: frozenset = frozenset()  # hooks that were there before the recorder's own
    _set_aside: list = []  # torch's function modes, during a call

    def registered(self) -> frozenset:
        return frozenset(number for proxy in self.proxies.values() for number in (*proxy._forward_pre_hooks, *proxy._forward_hooks))

    def hooked(self, only=lambda number: True, inside: ModuleProxy | None = None) -> list:
        """(module, shown before it runs, shown after it ran) of proxies with hooks."""
        proxies = self.proxies.values() if inside is None else inside.modules()
        found = [(p, any(map(only, p._forward_pre_hooks)), any(map(only, p._forward_hooks))) for p in proxies]
        return [entry for entry in found if entry[1] or entry[2]]

    # --- proxies -----------------------------------------------------------------------------------------------

    def module(self, number: int) -> ModuleProxy:
        """The proxy of a module, made with all those inside it when one is first met."""
        if number not in self.proxies:
            self._make(self.link.ask("describe", number))
        return self.proxies[number]

    def _make(self, told: dict) -> None:
        held = _mapped(told["file"], told["size"])
        for number, dtype, shape, start in told["tensors"]:
            self.tensors[number] = _at(held, getattr(torch, dtype), shape, start)
        for entry in told["modules"]:
            if entry["number"] in self.proxies:
                continue
            for number in entry["stores"]["_parameters"].values():
                if number is not None and not isinstance(self.tensors[number], torch.nn.Parameter):
                    self.tensors[number] = torch.nn.Parameter(self.tensors[number], requires_grad=False)
            proxy = self.proxies[entry["number"]] = modules.module(self, entry, self.tensors)
            slots = {(store, entry["number"], name): number for store, entries in entry["stores"].items() for name, number in entries.items()}
            self.numbers |= {slot: number for slot, number in slots.items() if number is not None}
            self._weights |= {number: _held(self.tensors[number]) for number in slots.values() if number is not None}
            for owner in self._owners(proxy):
                self._known[id(owner)] = _attributes(owner)
        for entry in told["modules"]:
            self.proxies[entry["number"]]._modules.update({name: None if n is None else self.proxies[n] for name, n in entry["children"].items()})

    @staticmethod
    def _owners(proxy: ModuleProxy) -> list:
        return [proxy, *(value for value in vars(proxy).values() if isinstance(value, Helper))]

    def refreshed(self, values: dict[int, torch.Tensor]) -> None:
        """The child's own runs changed these weights or buffers."""
        for number, value in values.items():
            if number in self.tensors:
                self.tensors[number].data = value
                self._weights[number] = _held(self.tensors[number])

    def refresh(self, names: set[str], components: dict) -> None:
        """Read weights and buffers again that `component/dotted.name` says have changed in the child."""
        wanted = []
        for name in names:
            component, _, dotted = name.partition("/")
            owner, _, last = dotted.rpartition(".")
            root = components.get(component)
            if isinstance(root, ModuleProxy):
                number = vars(root.get_submodule(owner))[NUMBER]
                wanted += [self.numbers[slot] for store in ("_parameters", "_buffers") if (slot := (store, number, last)) in self.numbers]
        if wanted:
            self.refreshed(self.ask("weights", wanted))

    # --- mirroring ---------------------------------------------------------------------------------------------

    def mirror(self, called: ModuleProxy | None = None) -> None:
        """Tell the child what changed in the proxies since it was last told. `called` may be a changed copy of one of them.

        Raises TypeError for what cannot be sent, such as code; then the child was told nothing.
        """
        proxies = dict(self.proxies)
        if called is not None:
            proxies |= {vars(inner)[NUMBER]: inner for inner in called.modules() if isinstance(inner, ModuleProxy)}
        changes = {}
        for number, proxy in proxies.items():
            changes |= self._weights_of(number, proxy) | self._attributes_of(number, proxy)
        if changes:
            self.ask("change", [(store, owner, name, value is BACK, None if value is BACK else value.values if isinstance(value, Held) else value)
                                for (store, _, name), (owner, value) in changes.items()])  # fmt: skip
            self._told.update({key: value for key, (_, value) in changes.items()})

    def _weights_of(self, number: int, proxy: ModuleProxy) -> dict:
        """{(store, module, name): (its proxy, new values, or BACK)}"""
        found = {}
        for store in ("_parameters", "_buffers"):
            for name, tensor in getattr(proxy, store).items():
                key = store, number, name
                if self.numbers.get(key) not in self._weights:
                    continue
                told = self._told.get(key, BACK)
                value = BACK if _same(self._weights[self.numbers[key]], tensor) else None if tensor is None else _held(tensor)
                if value is not told and not _same(told, tensor):
                    found[key] = self.proxies[number], value
        return found

    def _attributes_of(self, number: int, proxy: ModuleProxy) -> dict:
        """As `_weights_of`, for plain attributes and configurations of a module and of what it delegates to."""
        found = {}
        for own, owner in zip(self._owners(proxy), self._owners(self.proxies[number])):
            known, now = self._known[id(owner)], _attributes(own)
            changed = {name for name in known.keys() | now.keys() if now.get(name, BACK) is not known.get(name, BACK)}
            for name in changed | {name for _, held, name in self._told if held == id(owner)}:
                store = "config" if name in CONFIGURATIONS else "attributes"
                key, value = (store, id(owner), name), now.get(name, BACK) if name in changed else BACK
                if value is not self._told.get(key, BACK):
                    found[key] = owner, dict(value) if isinstance(value, dict) else value
        return found

    # --- calling -----------------------------------------------------------------------------------------------

    def call(self, held, args: tuple, kwargs: dict, method: str | None = None):
        """What an object of the child's returns; hooks on proxies and torch's function modes count as if it were here."""
        module = held if isinstance(held, ModuleProxy) else None
        self.mirror(module)
        hooks = [entry for entry in self.hooked(inside=module) if method is None or entry[0] is not module]
        told = {"object": held, "method": method, "args": args, "kwargs": kwargs, "hooks": hooks,
                "draws": torch.get_rng_state(), "autocast": autocast(), "functions": torch._C._len_torch_function_stack() > 0}  # fmt: skip
        with _without_modes() as self._set_aside:
            return self.ask("call", told)


@contextlib.contextmanager
def _without_modes():
    """torch's function modes set aside: they are for what the child computes, and not for the sending of it. Yields them."""
    aside = []
    while torch._C._len_torch_function_stack():
        aside.insert(0, torch.overrides._pop_mode())
    try:
        yield aside
    finally:
        for mode in aside:
            torch.overrides._push_mode(mode)


@contextlib.contextmanager
def _modes(held: list):
    for mode in held:
        torch.overrides._push_mode(mode)
    try:
        yield
    finally:
        for _ in held:
            torch.overrides._pop_mode()


def autocast() -> torch.dtype | None:
    """The type of the autocast context around the caller; None outside."""
    return next((torch.get_autocast_dtype(device) for device in ("cuda", "cpu") if torch.is_autocast_enabled(device)), None)


def _attributes(owner) -> dict:
    return {name: value for name, value in vars(owner).items()
            if name == "_internal_dict" or not (name.startswith("_") or name in ("training_step",) or isinstance(value, Helper))}  # fmt: skip


class Held(NamedTuple):
    """Values of a weight, and how often they had been written to."""

    values: torch.Tensor
    version: int


def _held(tensor: torch.Tensor) -> Held:
    return Held(tensor.detach(), tensor._version)


def _same(held, tensor) -> bool:
    """Is a tensor in the same memory as before, and not written to since?"""
    if not isinstance(held, Held) or tensor is None:
        return False
    before = held.values
    return (before.data_ptr(), before.dtype, before.shape, held.version) == (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor._version)


def _mapped(path: str, size: int) -> torch.UntypedStorage:
    """The file in memory, read as it is used and private to this process; its name goes away at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = torch.UntypedStorage.from_file(path, False, size) if size else torch.UntypedStorage(0)
    pathlib.Path(path).unlink()
    return held


def _at(held: torch.UntypedStorage, dtype: torch.dtype, shape: list[int], start: int) -> torch.Tensor:
    tensor = torch.empty(0, dtype=dtype)
    count = 1
    for size in shape:
        count *= size
    return torch.empty(shape, dtype=dtype) if not count else tensor.set_(held, start // tensor.element_size(), torch.Size(shape))
