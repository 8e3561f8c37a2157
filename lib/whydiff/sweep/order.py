"""Which case a worker does next: one that shares a recording, or at least a pipeline, with what it did last."""

from __future__ import annotations

from whydiff.sweep.grid import Planned
from whydiff.sweep.pool import recording_key, side_key


def sharing(planned: Planned) -> tuple[str, ...]:
    """(recording of the reference, recording of the candidate, reference, candidate), each as a key; "" for a side that is not run."""
    case = planned.case()
    live = {role: side.live is not None for role, side in case.sides().items()}
    return tuple(make(case, role) if live[role] else "" for make in (recording_key, side_key) for role in live)


def choose(waiting: list[Planned], shares: dict[str, tuple], last: str | None, busy: list[str]) -> Planned:
    """The case for a worker whose last case was `last`. `busy`: the cases that other workers have now.

    One that shares most with the last; else the first of a group that nobody is at, so that groups stay together; else the first.
    """
    if last is not None:
        near = max(waiting, key=lambda planned: _common(shares[planned.name], shares[last]))
        if _common(shares[near.name], shares[last]):
            return near
    taken = {shares[name][0] or shares[name][1] for name in busy}
    return next((planned for planned in waiting if (shares[planned.name][0] or shares[planned.name][1]) not in taken), waiting[0])


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How much of a case need not be done again after another: recordings count more than loading."""
    return sum(weight for weight, a, b in zip((4, 3, 2, 2), one, other, strict=True) if a and a == b)
