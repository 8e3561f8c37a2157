"""What every module of a network received and returned in one run; and a run in which each of them is fed recorded values.

With inputs *and* outputs of all modules put right, a module that still receives or returns something else does so by
itself: a layer by its operation, a block by its code between the layers. Nothing is inherited from module to module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from whydiff.evidence.recording.diffusers_probes import arguments_of, as_passed, forward_signature
from whydiff.evidence.recording.recorder import Recorder
from whydiff.measure.compare import relative_l2


@dataclasses.dataclass
class Call:
    """One call of a module. `inputs` are its arguments by name, `output` what it returned itself, before any repair."""

    key: str  # `transformer/blocks.0.attn`, or `... call 2` for a second one
    name: str
    module: torch.nn.Module
    parent: str | None  # the call whose code made this one
    inputs: dict[str, Any]
    args: tuple
    kwargs: dict
    output: Any = None
    done: int = -1  # position in the order in which calls end


class CallRecorder(Recorder):
    """A recorder that notes every call of the modules of `components` at one step (None: whenever).

    `counterpart(key)` gives the recorded call whose inputs and output this one gets, or None to leave it alone;
    `pick(tensor)` changes each value put in (moved by one ulp, to measure a floor).
    """

    def __init__(self, components: list[str], step: int | None, *, substitute=None, counterpart: Callable = lambda key: None,
                 pick: Callable = lambda tensor: tensor, **options):  # fmt: skip
        super().__init__(substitute=substitute, **options)
        self.wanted, self.at, self.counterpart, self.pick = components, step, counterpart, pick
        self.calls: dict[str, Call] = {}
        self._stack: list[Call | None] = []
        self._count: Counter = Counter()
        self._copies: dict[int, tuple] = {}
        self._ended = 0

    @contextlib.contextmanager
    def listen(self, side_object):
        components = dict(getattr(side_object, "components", None) or {})
        with super().listen(side_object), contextlib.ExitStack() as stack:
            for component in self.wanted:
                for dotted, module in _named(components.get(component)):
                    name = f"{component}/{dotted}" if dotted else component
                    # After the probes' own hook on the way in, before it on the way out: inputs as repaired, outputs as made.
                    for handle in (module.register_forward_pre_hook(self._before(name), with_kwargs=True),
                                   module.register_forward_hook(self._after, prepend=True)):  # fmt: skip
                        stack.callback(handle.remove)
            yield self

    def _before(self, name: str):
        def hook(module, args, kwargs):
            other_step = self.at is not None and self.step is not None and self.step != self.at
            if other_step or (self.guided_alone and self.branch == "uncond"):
                self._stack.append(None)
                return None
            self._count[name] += 1
            number = self._count[name]
            key = name if number == 1 else f"{name} call {number}"
            parent = next((call.key for call in reversed(self._stack) if call is not None), None)
            signature, received = bound(module, args, kwargs)
            call = Call(key, name, module, parent, *self._alone(self.copied((received, args, kwargs))))
            self._stack.append(call)
            self.calls[key] = call
            other = self.counterpart(key)
            if other is None:
                return None
            fitted = self._beside(fit(other.inputs, self._alone(received), self.pick), received)
            if signature is None:
                return tuple(fitted[f"argument {i}"] for i in range(len(args))), {k: fitted[k] for k in kwargs}
            return as_passed(signature, fitted, args, kwargs)

        return hook

    def _after(self, _module, _args, output):
        call = self._stack.pop() if self._stack else None
        if call is None:
            return None
        call.output = self._alone(self.copied(output))
        call.done = self._ended = self._ended + 1
        other = self.counterpart(call.key)
        return None if other is None else self._beside(fit(other.output, self._alone(output), self.pick), output)

    def _alone(self, tree):
        """The conditional rows of a call that holds both branches, where the other side has no other; else all of it."""
        if not self.guided_alone or self.conditional is None:
            return tree
        rows, batch = self.conditional
        return tree_map(lambda v: v[rows] if _has_rows(v, batch) else v, tree)

    def _beside(self, part, own):
        """`own` with its conditional rows replaced by `part`, as `_alone` took them."""
        if not self.guided_alone or self.conditional is None:
            return part
        rows, batch = self.conditional

        def put(value, whole):
            if not _has_rows(whole, batch):
                return value
            whole = whole.clone()
            whole[rows] = value
            return whole

        return tree_map(put, part, own)

    def copied(self, tree):
        """A copy of all tensors in a nest of lists, dicts and outputs; one copy for a tensor that passes by unchanged."""
        leaves, spec = tree_flatten(tree)
        return tree_unflatten([self._copy(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], spec)

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        kept = self._copies.get(id(tensor))
        if kept is not None and kept[0]() is tensor and kept[1] == tensor._version:
            return kept[2]
        copy = tensor.detach().clone()
        self._copies[id(tensor)] = (weakref.ref(tensor), tensor._version, copy)
        return copy


def _has_rows(value, batch: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == batch


def _named(root):
    return list(root.named_modules()) if isinstance(root, torch.nn.Module) else []


def bound(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[Any, dict[str, Any]]:
    """The arguments of a call by name; `argument 0`, ... and no signature where the signature does not tell."""
    try:
        signature = forward_signature(module)
        named = dict(signature.bind(*args, **kwargs).arguments)
        return signature, named
    except (TypeError, ValueError):
        return None, {f"argument {i}": value for i, value in enumerate(args)} | dict(kwargs)


def fit(values, own, pick=lambda tensor: tensor):
    """`own` with its tensors replaced by those of `values`, position by position where the nests agree, else its first one.

    Tensors go in where the number of elements is the same; shape, dtype and device stay those of `own`. Lists and dicts of
    `own` stay the objects they are: modules write to those they are passed (feature caches of causal decoders, their
    counters), and who passed them reads there.
    """
    mine, spec = tree_flatten(own)
    others, same = tree_flatten(values)
    if same != spec and type(own) is dict and isinstance(values, dict) and own.keys() & values.keys():
        return {key: fit(values[key], value, pick) if key in values else value for key, value in own.items()}
    if len(mine) != len(others):
        places = [i for i, leaf in enumerate(mine) if isinstance(leaf, torch.Tensor)][:1]
        others = [leaf for leaf in others if isinstance(leaf, torch.Tensor)][:1]
        pairs = dict(zip(places, others))
    else:
        pairs = dict(enumerate(others))
    filled = [_fitted(leaf, pairs.get(i), pick) for i, leaf in enumerate(mine)]
    return _in_place(own, tree_unflatten(filled, spec))


def _in_place(own, filled):
    """`filled`, built like `own`, with its contents in the lists and dicts of `own`."""
    if type(own) in (list, tuple):
        inner = [_in_place(mine, new) for mine, new in zip(own, filled)]
        if type(own) is tuple:
            return tuple(inner)
        own[:] = inner
        return own
    if type(own) is dict:
        own.update({key: _in_place(mine, filled[key]) for key, mine in own.items()})
        return own
    return filled


def _fitted(own, value, pick):
    if not isinstance(own, torch.Tensor) or not isinstance(value, torch.Tensor) or own.numel() != value.numel():
        return own
    return pick(value).reshape(own.shape).to(device=own.device, dtype=own.dtype, copy=True)


def made_alike(one, other) -> bool:
    """Are two objects of one class? What stands here for an object of another interpreter says what its class is called there."""
    kinds = type(one), type(other)
    if kinds[0] is kinds[1] or not any(getattr(kind, "elsewhere", False) for kind in kinds):
        return kinds[0] is kinds[1]
    return (kinds[0].__module__, kinds[0].__qualname__) == (kinds[1].__module__, kinds[1].__qualname__)


def called_alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Do two modules share one forward, or one by name and arguments where it runs in two interpreters?"""
    if type(one).forward is type(other).forward:
        return True
    elsewhere = any(getattr(type(module), "elsewhere", False) for module in (one, other))
    return elsewhere and made_alike(one, other) and arguments_of(one) == arguments_of(other)


def tensors_in(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


def distance(reference, candidate, first_only: bool = False) -> float:
    """The largest relative L2 distance between tensors of two nests, paired by position; inf where their numbers or sizes differ.

    Entries that are not finite on both sides (masks) count as equal. `first_only`: implementations with other signatures
    share no more than the first tensor.
    """
    a, b = tensors_in(reference), tensors_in(candidate)
    if first_only:
        a, b = a[:1], b[:1]
        if len(a) != len(b) or any(x.numel() != y.numel() for x, y in zip(a, b)):
            return 0.0  # nothing comparable, so nothing is claimed
    if len(a) != len(b):
        return math.inf
    return max((one_distance(x, y) for x, y in zip(a, b)), default=0.0)


def one_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    if x.numel() != y.numel():
        return math.inf
    y = y.reshape(x.shape)
    if torch.equal(x, y):
        return 0.0
    if x.is_floating_point() and y.is_floating_point() and not (x.isfinite().all() and y.isfinite().all()):
        if not torch.equal(x.nan_to_num(7.0, 8.0, 9.0) * ~x.isfinite(), (y.nan_to_num(7.0, 8.0, 9.0) * ~y.isfinite()).to(x.dtype)):
            return math.inf
        x, y = x.nan_to_num(0.0, 0.0, 0.0), y.nan_to_num(0.0, 0.0, 0.0)
    return relative_l2(x, y)
