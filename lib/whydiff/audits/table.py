"""The audits in the order of the notebooks: the table of contents that notebooks, tests, report and command read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable

from whydiff.audits import (
    dimension_audit,
    first_divergence,
    guidance_and_step,
    model_state,
    noise_equality,
    prompt_embedding_stats,
    root_cause,
    schedule_math,
    start_here,
    step_timing,
    vae_round_trip,
)
from whydiff.audits.result import AuditResult
from whydiff.errors import Trouble, did_you_mean


@dataclasses.dataclass(frozen=True)
class Audit:
    """One notebook's question. `run(study)` answers it.

    `files`: parameters that name files of evidence which a study does not hold; the notebook needs the first of them.
    """

    number: int
    name: str
    question: str
    run: Callable[..., AuditResult]
    files: tuple[str, ...] = ()

    @property
    def notebook(self) -> str:
        """`02_noise_equality`: the notebook's file name without its ending."""
        return f"{self.number:02d}_{self.name}"


_MODULES = (
    start_here,
    dimension_audit,
    noise_equality,
    schedule_math,
    prompt_embedding_stats,
    vae_round_trip,
    model_state,
    guidance_and_step,
    first_divergence,
    root_cause,
    step_timing,
)
AUDITS: tuple[Audit, ...] = tuple(Audit(i, m.NAME, m.QUESTION, m.audit, getattr(m, "FILES", ())) for i, m in enumerate(_MODULES))
BY_NAME = {audit.name: audit for audit in AUDITS}


def chosen(only: Iterable[str] | None = None) -> list[Audit]:
    """The audits named, with or without their number, in their order; all for None. Raises Trouble for an unknown name."""
    if only is None:
        return list(AUDITS)
    names = []
    for word in only:
        name = re.sub(r"^\d+_", "", str(word).removesuffix(".ipynb"))
        if name not in BY_NAME:
            raise Trouble(f"no notebook is called {word!r}.{did_you_mean(name, BY_NAME)} Known: {', '.join(BY_NAME)}.")
        names.append(name)
    return [audit for audit in AUDITS if audit.name in names]


def run_audits(study, only: Iterable[str] | None = None) -> list[AuditResult]:
    """Every audit's answer about one study, in order. `only` takes notebook names with or without their number."""
    return [audit.run(study) for audit in chosen(only)]
