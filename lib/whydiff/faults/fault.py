"""A fault: one small function that breaks one side of a healthy pair of pipelines, and the catalogue id it stands for.

Faults know nothing of the engine: they patch pipelines as a careless programmer would, and never look at probes, causes
or verdicts. Which causes count as right stands in `right.py`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Host:
    """A pipeline ready to be called, and the call it gets. A fault may change both."""

    kind: str  # the name in `hosts.HOSTS`: "flux", "flux_port", "wan", "sd15", ...
    pipeline: Any
    call: dict[str, Any]


@dataclasses.dataclass
class Trial:
    """What a fault gets: the side it breaks, the side that stays healthy, and chance (sites and sizes, from a printed seed)."""

    faulty: Host
    healthy: Host
    draw: random.Random


@dataclasses.dataclass(frozen=True)
class Fault:
    """`inject` breaks `trial.faulty` in place. `hosts` are the kinds of pipeline that can carry it, `call` what both sides'
    calls need for it to show (a size that is not square, two prompts)."""

    id: str
    inject: Callable[[Trial], None]
    hosts: tuple[str, ...]
    call: dict[str, Any] = dataclasses.field(default_factory=dict)


FAULTS: dict[str, Fault] = {}


def fault(id_: str, *hosts: str, **call):
    """Register the decorated function as the injector of catalogue id `id_`, carried by `hosts`."""

    def register(inject: Callable[[Trial], None]) -> Callable[[Trial], None]:
        if id_ in FAULTS:
            raise ValueError(f"{id_} has two injectors")
        FAULTS[id_] = Fault(id_, inject, hosts, call)
        return inject

    return register
