"""What is known about a cause before any experiment."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CauseKind:
    """One line of `whydiff causes`. `parameters` are the keys of its `relation`; `equivalent` are ids that tensors
    cannot tell apart from it."""

    id: str
    stage: str
    probes: tuple[str, ...]
    meaning: str
    parameters: tuple[str, ...] = ()
    equivalent: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {k: list(getattr(self, k)) for k in ("probes", "parameters", "equivalent")}
