"""What a note believed, held against the evidence: claim by claim, and what follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from whydiff.audits.result import AuditResult, Sentence

WORDS = {True: "holds", False: "refuted", None: "open"}


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that was believed. `holds`: what the evidence says, None where it says nothing; `because`: the evidence.

    `vacuous`: the check behind the claim could not have failed. Then the claim may still be true, and is not shown.
    """

    text: str
    holds: bool | None
    because: str
    vacuous: bool = False

    @property
    def word(self) -> str:
        word = WORDS[None if self.holds is None else bool(self.holds)]
        return f"{word}; its check was vacuous" if self.vacuous else word


def settle(name: str, question: str, verdict: str, claims: Iterable[Claim], findings: Iterable[str] = ()) -> AuditResult:
    """The verdict of an investigation: one of the six words, the claims as its table, and what follows as findings.

    A claim's words are part of the answer that a test holds the next run against; its evidence, which has figures, is not.
    """
    claims = tuple(claims)
    said = [Sentence(f"{claim.word}: {claim.text}") for claim in claims]
    rows = tuple((claim.text, claim.word, claim.because) for claim in claims)
    return AuditResult(name, question, verdict, (*said, *findings), ("the note believed", "it", "because"), rows)
