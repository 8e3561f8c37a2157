"""What a side shows when it runs alone, with nothing put in: the same in every case that has this side and this call.

A study makes these runs once for each side. Whoever studies many cases hands over a `Store` that remembers sides and runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from whydiff.evidence.case import Case
from whydiff.evidence.floor import Floor
from whydiff.evidence.sides.loading import load_side
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.traces.trace import Trace


class Alone:
    """The runs of one side by name, and the floor that follows from them. Each is made when it is first asked for."""

    def __init__(self):
        self.runs: dict[str, Trace] = {}
        self.held: dict | None = None  # checksums of weights and arguments before the first run
        self.draws: set[str] = set()  # the global generators that the runs drew from
        self._floor: Floor | None = None

    def held_before(self, side: RunnableSide) -> dict:
        if self.held is None:
            self.held = side.checksums()
        return self.held

    def run(self, name: str, side: RunnableSide, make: Callable[[], Trace]) -> Trace:
        """A copy: what a study does to a trace (names, environment, floor) is its own."""
        if name not in self.runs:
            self.runs[name] = copied(make())
            self.draws |= side.global_draws
        side.global_draws |= self.draws
        return copied(self.runs[name])

    def floor(self, make: Callable[[], Floor]) -> Floor:
        self._floor = self._floor or copy.deepcopy(make())
        return copy.deepcopy(self._floor)

    @property
    def repeats_itself(self) -> bool:
        """Were the first run and the one after another request made, and is every tensor of them the same?"""
        first, again = self.runs.get("first"), self.runs.get("again")
        return first is not None and again is not None and set(first) == set(again) and all(
            first[p].shape == again[p].shape and torch.equal(first[p].nan_to_num(), again[p].nan_to_num()) for p in first)  # fmt: skip

    @property
    def bytes(self) -> int:
        held = {e.tensor.data_ptr(): e.tensor for trace in self.runs.values() for e in trace.events.values()}
        return sum(tensor.numel() * tensor.element_size() for tensor in held.values())


class Store:
    """Where a study has its sides and their runs from. This one remembers nothing: all is loaded and run anew."""

    def load(self, case: Case, role: str) -> RunnableSide:
        return load_side(case, role)

    def alone(self, case: Case, role: str) -> Alone:
        return Alone()


def copied(trace: Trace) -> Trace:
    """Another trace of the same tensors: events may be added to it, renamed and taken away."""
    made = copy.copy(trace)
    for name, value in vars(trace).items():
        if isinstance(value, (dict, list, set)):
            setattr(made, name, copy.copy(value))
    return made
