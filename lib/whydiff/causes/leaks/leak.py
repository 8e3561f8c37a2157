"""What the experiments on leaks are given: three runs of one side, and what they hand back."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place


@dataclasses.dataclass(frozen=True)
class Leak:
    """`role`'s runs A (`first`), B (`other`), A again (`again`) and once more (`third`); `place` is the first at which the
    first two A differ.

    `changed` are weights, buffers and call arguments that are no longer what they were before the first run.
    """

    role: str
    place: Place
    first: Trace
    other: Trace
    again: Trace
    third: Trace
    changed: list[str]
    evaluations: tuple[int, int]  # of the network, in both A


def cause(leak: Leak, id_: str, statement: str, experiment: str, fix: str, relation: dict, equivalent=()) -> Explanation:
    return Explanation(id=id_, stage="state_leakage", probe=leak.place.probe, statement=f"{leak.role}: {statement}", experiment=experiment,
                       fix=fix, relation={"side": leak.role, **relation}, explained=1.0, departs=leak.role,
                       equivalent=list(equivalent))  # fmt: skip


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def apart(lab, leak: Leak, run: Trace, place: Place) -> bool:
    event, first = run.events.get(place), leak.first[place]
    return event is None or event.tensor.shape != first.shape or lab.differs_between_runs(place, first, event.tensor)
