"""A module that makes a difference by itself, with everything an experiment on it needs."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import torch
from torch.utils._pytree import tree_map

from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.recording.calls import Call, called_alike, distance, fit

# An experiment must leave no more than this share of a difference, whatever the floor: a floor that is nearly as large as
# the difference itself would let anything pass.
LEFT_OVER = 0.25


@dataclasses.dataclass(eq=False)
class Inside:
    """Counterparts on both sides, called with the same inputs, put out different values.

    `calls` are the recorded calls on the reference's inputs (None: the component itself, whose method is no forward).
    `why` tells how the difference shows: in what it returns, or in what its own code hands to a module inside.
    """

    names: dict[str, str]  # by role: `transformer/transformer_blocks.0.attn`
    modules: dict[str, torch.nn.Module | None]
    roots: dict[str, torch.nn.Module]
    calls: dict[str, Call | None]
    difference: float
    floor: float
    step: int | None
    stage: str
    why: str = "output"
    where: str = ""  # the module inside that received something else, with `why` "input"
    handed: dict[str, float] = dataclasses.field(default_factory=dict)  # all such modules, and how far apart what they received is
    received: tuple[list, list] = ()  # what that module received on the reference's and on the candidate's side
    entries: list = dataclasses.field(default_factory=list)  # of its state that, as on the other side, make it compute the same
    found: str = ""  # what an experiment showed that has no catalogue id

    @property
    def name(self) -> str:
        return self.names["candidate"]

    def to_dict(self) -> dict[str, Any]:
        difference = self.difference if math.isfinite(self.difference) else None
        counterpart = {"module_reference": self.names["reference"]} if self.names["reference"] != self.names["candidate"] else {}
        return {"module": self.name, **counterpart, "difference": difference, "noise_floor": self.floor} | (
            {"why": self.found} if self.found else {})

    @property
    def can_run(self) -> bool:
        return all(self.modules.values()) and all(self.calls.values())

    def run(self, role: str, module: torch.nn.Module | None = None) -> Any:
        """What a side's module makes of the reference's inputs; `module`: a changed stand-in for it. Always the same draws."""
        own = self.calls[role]
        args, kwargs = tree_map(copied, (own.args, own.kwargs))
        if role == "candidate":
            args, kwargs = self._as_candidate(args, kwargs)
        module = module or self.modules[role]
        forget(module)
        torch.manual_seed(0)
        with torch.no_grad():
            return module(*args, **kwargs)

    def _as_candidate(self, args, kwargs):
        """The reference's inputs in the form in which the candidate's module was called."""
        from whydiff.evidence.recording.calls import as_passed, bound

        signature, received = bound(self.modules["candidate"], args, kwargs)
        fitted = fit(self.calls["reference"].inputs, received)
        if signature is None:
            return tuple(fitted[f"argument {i}"] for i in range(len(args))), {k: fitted[k] for k in kwargs}
        return as_passed(signature, fitted, args, kwargs)

    def outputs(self) -> dict[str, Any]:
        """Both sides' own outputs on the same inputs, run here and now (cached)."""
        if not hasattr(self, "_outputs"):
            self._outputs = {role: self.run(role) for role in ("reference", "candidate")}
        return self._outputs

    def gap(self) -> float:
        """How far apart the two are on the same inputs, run here and now (cached)."""
        if not hasattr(self, "_gap"):
            outputs = self.outputs()
            self._gap = distance(outputs["reference"], outputs["candidate"], self.foreign)
        return self._gap

    @property
    def foreign(self) -> bool:
        """Are the two modules of different making, so that only first tensors can be compared?"""
        return not called_alike(self.modules["reference"], self.modules["candidate"])

    def closes(self, target: Any, after: Any) -> bool:
        """Does `after` equal `target` to the floor, and is that most of the difference?

        Where both modules compute the same on these inputs there is no difference to close, and an experiment that changes
        nothing would pass: then none does.
        """
        left, gap = distance(target, after, self.foreign), self.gap()
        return gap > 0.0 and (left == 0.0 or (left <= self.tolerance and left <= LEFT_OVER * gap))

    @property
    def tolerance(self) -> float:
        return STANDS_OUT * self.floor


def copied(value):
    """An argument for another run. A cache of keys and values that modules fill as they run would grow with every experiment, and
    was empty when an encoder's only pass began: without one, modules compute the same."""
    if callable(getattr(value, "update", None)) and callable(getattr(value, "get_seq_length", None)):
        return None
    return value.detach().clone() if isinstance(value, torch.Tensor) else copy.copy(value) if isinstance(value, dict) else value


def forget(module: torch.nn.Module) -> None:
    """Clear what `functools` caches for methods: tables made before an experiment would hide what it changes."""
    for kind in {type(inner) for inner in module.modules()}:
        for method in {name: value for parent in reversed(kind.__mro__) for name, value in vars(parent).items()}.values():
            # The cache itself, or a wrapper that keeps it in its closure.
            cells = [method, *(cell.cell_contents for cell in getattr(method, "__closure__", None) or () if _filled(cell))]
            for cached in cells:
                clear = getattr(cached, "cache_clear", None)
                if callable(clear):
                    clear()


def _filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
