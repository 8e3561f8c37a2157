"""Was the verdict the one that the case expects? Then the case serves as a regression test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whydiff.verdict import Verdict

if TYPE_CHECKING:
    from whydiff.evidence.case import Expect

PROVES_NOTHING = ("vacuous", "incomparable")


def exit_status(verdict: Verdict, expect: Expect | None) -> int:
    """As diff(1); with `expect` 0 where it is met and 1 where not. An unexpected vacuous or incomparable stays 2."""
    if expect is None or (expect.verdict is None and expect.causes is None):
        return verdict.exit_status
    if shortfall(verdict, expect) is None:
        return 0
    return 2 if verdict.verdict in PROVES_NOTHING and verdict.verdict != expect.verdict else 1


def shortfall(verdict: Verdict, expect: Expect | None) -> str | None:
    """What was expected and did not happen, in words; None where the expectation is met or there is none."""
    if expect is None:
        return None
    wrong = []
    if expect.verdict is not None and not _verdict_met(verdict.verdict, expect.verdict):
        wrong.append(f"expected verdict {expect.verdict}, got {verdict.verdict}")
    if expect.causes is not None:
        missing, surplus = _unmatched(expect.causes, verdict)
        if missing:
            wrong.append(f"expected and not named: {', '.join(missing)}")
        if surplus:
            wrong.append(f"named and not expected: {', '.join(surplus)}")
        if verdict.unexplained:
            wrong.append(f"{len(verdict.unexplained)} unexplained")
    return "; ".join(wrong) or None


def _verdict_met(verdict: str, expected: str) -> bool:
    return verdict == expected or (expected == "same" and verdict == "within_noise")


def _unmatched(expected: list[str], verdict: Verdict) -> tuple[list[str], list[str]]:
    """Expected ids without a cause, and causes without an expected id. Each cause answers to its id and its equivalents."""
    wanted = list(dict.fromkeys(expected))
    answers = {}
    for cause in verdict.causes:
        answers.setdefault(cause.id, set()).update({cause.id, *cause.equivalent})
    taken: dict[str, str] = {}  # expected id -> cause

    def assign(cause: str, seen: set[str]) -> bool:
        # Two causes may share an equivalent; augmenting paths find an assignment wherever there is one.
        for id_ in wanted:
            if id_ in answers[cause] and id_ not in seen:
                seen.add(id_)
                if id_ not in taken or assign(taken[id_], seen):
                    taken[id_] = cause
                    return True
        return False

    surplus = [cause for cause in answers if not assign(cause, set())]
    return [id_ for id_ in wanted if id_ not in taken], surplus
