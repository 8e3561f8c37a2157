"""Counterparts in two implementations of different making: one value that both make, looked at where each side's own code makes it.

The value is what a pair of modules puts out, or the first thing that a pair receives (then the code that hands it over made
it). Each side runs on its own recorded inputs, which agree up to here; so no order or form of arguments has to be known.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch.utils._pytree import tree_map

from whydiff.causes.inside.functions import watched
from whydiff.causes.inside.inside import Inside, copied, forget
from whydiff.evidence.recording.calls import Call, tensors_in
from whydiff.measure.pairing.outputs import arranged, difference

OTHER = {"reference": "candidate", "candidate": "reference"}
MOST_VALUES = 24  # values of the other side that are tried in the place of one module's output
MOST_SUSPECTS = 24


@dataclasses.dataclass(eq=False)
class Between(Inside):
    """`children`: the modules whose first input is the value; None where the value is what the module itself puts out.

    `paired` are the modules of each side that have a counterpart, `around` all recorded calls of each side, `place` the
    modules to name while nothing explains the difference.
    """

    children: dict[str, torch.nn.Module | None] = dataclasses.field(default_factory=dict)
    paired: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    around: dict[str, dict[str, Call]] = dataclasses.field(default_factory=dict)
    place: dict[str, str | None] = dataclasses.field(default_factory=dict)
    index: dict[str, int] = dataclasses.field(default_factory=dict)  # which of several outputs
    instead: Between | None = None  # another place, further outwards: asked where nothing explains this one

    def to_dict(self) -> dict[str, Any]:
        other = self.place or self.names
        counterpart = {"module_reference": other["reference"]} if other["reference"] != other["candidate"] else {}
        return super().to_dict() | {"module": other["candidate"]} | counterpart

    def run(self, role: str, module: torch.nn.Module | None = None) -> torch.Tensor:
        """The value as a side makes it of its own recorded inputs."""
        call, child, seen = self.calls[role], self.children.get(role), []
        args, kwargs = tree_map(copied, (call.args, call.kwargs))
        module = module or self.modules[role]
        forget(module)
        torch.manual_seed(0)
        handle = None if child is None else child.register_forward_pre_hook(
            lambda _m, args, kwargs: seen.extend(t.detach().clone() for t in tensors_in((args, kwargs))[:1]), with_kwargs=True)  # fmt: skip
        try:
            with torch.no_grad():
                output = module(*args, **kwargs)
        finally:
            if handle is not None:
                handle.remove()
        return seen[0] if child is not None else tensors_in(output)[self.index.get(role, 0)]

    @property
    def foreign(self) -> bool:
        return True

    def gap(self) -> float:
        outputs = self.outputs()
        return _apart(outputs["reference"], outputs["candidate"])

    def closes(self, target, after) -> bool:
        left = _apart(target, tensors_in(after)[0])
        return left == 0.0 or (left <= self.tolerance and left <= 0.25 * self.gap())

    def narrowed(self) -> Inside | None:
        """The one module without counterpart on either side that makes the difference: what it receives is known to the other
        side, what it returns is not, and with a value of the other side in its place the rest comes out right."""
        for role in ("candidate", "reference"):
            values = _values(self, OTHER[role])
            own = self.calls[role].name
            calls = [c for c in self.around[role].values() if c.name.startswith((f"{own}.", f"{own}/")) and c.name not in self.paired[role]]
            for call in sorted(calls, key=lambda c: c.done)[:MOST_SUSPECTS]:
                received, made = _floats(call.inputs), _floats(call.output)[:1]
                if not received or not made or not any(self._same(v, received[0]) for v in values):
                    continue
                alike = [v for v in values if v.numel() == made[0].numel()]
                if any(self._same(v, made[0]) for v in alike):
                    continue
                if any(self._repairs(role, call, value, self.outputs()[OTHER[role]]) for value in alike[:MOST_VALUES]):
                    names = {role: call.name, OTHER[role]: self.names[OTHER[role]]}
                    return Inside(names, self.modules | {role: call.module}, self.roots, {role: call, OTHER[role]: None}, self.difference, self.floor,
                                  self.step, self.stage, found=f"with a value of the {OTHER[role]} in place of what {call.name} returns, "
                                  f"{own} of the {role} computes what the {OTHER[role]} does")  # fmt: skip
        return None

    def _same(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        return _apart(b, a) <= self.tolerance

    def _repairs(self, role: str, call: Call, value: torch.Tensor, target: torch.Tensor) -> bool:
        number = [c.key for c in self.around[role].values() if c.name == call.name].index(call.key)
        count = [0]

        def put(_module, _args, output):
            count[0] += 1
            if count[0] - 1 != number:
                return None
            if isinstance(output, torch.Tensor):
                return arranged(value, output).to(output)
            if type(output) is tuple and output and isinstance(output[0], torch.Tensor):
                return (arranged(value, output[0]).to(output[0]), *output[1:])
            return None

        handle = call.module.register_forward_hook(put)
        try:
            return self.closes(target, self.run(role))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        finally:
            handle.remove()


def _values(inside: Between, role: str) -> list[torch.Tensor]:
    """What a side's code and modules make on the way to the value, and what they start from, each once."""
    found = _floats(inside.calls[role].inputs)
    for seen in watched(lambda: inside.run(role)):
        found += _floats(seen.result)
    kept: dict[tuple, torch.Tensor] = {}
    for tensor in found:
        if tensor.numel() > 1:
            kept.setdefault((tensor.numel(), float(tensor.double().sum()), float(tensor.double().abs().sum())), tensor)
    return list(kept.values())


def _floats(tree) -> list[torch.Tensor]:
    return [t.detach() for t in tensors_in(tree) if t.is_floating_point() and t.numel()]


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return difference(a, b) if a.numel() == b.numel() else math.inf
