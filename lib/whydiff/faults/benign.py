"""Variations that must never be called a bug: other kernels, layouts, batches, threads, spellings, and declared precision.

Each changes how one side computes and not what. From shared/faults/benign_variations.json as far as a CPU can, and more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from whydiff.faults.fault import Trial

AGREE = ("same", "within_noise", "precision", "vacuous")


@dataclasses.dataclass(frozen=True)
class Benign:
    """`vary` changes `trial.faulty`; `declares` is what that side says about itself."""

    id: str
    vary: Callable[[Trial], None]
    host: str
    declares: dict = dataclasses.field(default_factory=dict)
    sides: tuple[str, ...] = ("reference", "candidate")
    verdicts: tuple[str, ...] = AGREE


BENIGN: dict[str, Benign] = {}


def benign(id_: str, host: str, **more):
    """Register the decorated function as a variation of `host`."""

    def register(vary: Callable[[Trial], None]) -> Callable[[Trial], None]:
        BENIGN[id_] = Benign(id_, vary, host, **more)
        return vary

    return register


from whydiff.faults import benign_calls, benign_kernels, benign_precision  # noqa: E402, F401  (they fill the table)
