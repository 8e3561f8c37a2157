"""The Python calls: `diagnose`, `assert_same`, `study`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from whydiff.engine.alone import Store
from whydiff.engine.study import Study
from whydiff.engine.study import study as _study
from whydiff.evidence.case import Case, Live, Side, load_case
from whydiff.verdict import Verdict


def live_case(reference, candidate, call: Mapping[str, Any] | None, declares, question: str) -> Case:
    """A case made of two live objects. `call` may be {"reference": {...}, "candidate": {...}} to differ by side."""
    calls = dict(call or {})
    by_side = set(calls) == {"reference", "candidate"} and all(isinstance(v, Mapping) for v in calls.values())
    declares = declares or {}
    sides = {}
    for role, subject in (("reference", reference), ("candidate", candidate)):
        live = Live(entry=type(subject).__qualname__, call=dict(calls[role] if by_side else calls))
        live.object = subject
        sides[role] = Side(live=live, declares=dict(declares.get(role, {})))
    return Case(title="live", question=question, **sides)


def diagnose(case=None, *, reference=None, candidate=None, call: Mapping[str, Any] | None = None, declares=None,
             question: str = "Why do the two outputs differ?", progress: Callable[[str], None] | None = None) -> Verdict:  # fmt: skip
    """Why do two implementations differ? Runs both, and returns the verdict.

    `reference`, `candidate`: diffusers pipelines (any class), or callables that may have `components` and call
    `whydiff.tap`. `call`: keyword arguments for both (`seed` as each side takes it). `declares`: departures on purpose,
    such as {"candidate": {"dtype": "bfloat16"}}. Instead of objects, `case`: a path of a case file, or a Case.

    Raises whydiff.Trouble for bad input and when a side raises.
    """
    return study(case, reference=reference, candidate=candidate, call=call, declares=declares, question=question,
                 progress=progress).verdict  # fmt: skip


def study(case=None, *, reference=None, candidate=None, call=None, declares=None,
          question: str = "Why do the two outputs differ?", progress=None, overrides=None,
          apart: bool | None = None, store: Store | None = None) -> Study:  # fmt: skip
    """As `diagnose`, and everything that was measured on the way: what the notebooks look at.

    `apart`: keep only one side in memory at a time (those of a case, which can be made again); None: where both do not fit.
    `store`: where sides and their runs come from; whoever studies many cases has one that remembers.
    """
    if isinstance(case, Case):
        made = case
    elif case is not None:
        made = load_case(case, overrides)
    else:
        made = live_case(reference, candidate, call, declares, question)
    return _study(made, progress or (lambda text: None), apart, store)


def assert_same(*, reference, candidate, call=None, declares=None) -> Verdict:
    """For pytest: passes on same, within_noise and precision; otherwise AssertionError with the verdict's own words."""
    verdict = diagnose(reference=reference, candidate=candidate, call=call, declares=declares)
    if not verdict.agrees:
        raise AssertionError(f"{verdict.verdict}: {verdict}")
    return verdict
