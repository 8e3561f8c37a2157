"""How many runs a diagnosis takes: said before it starts, and limited while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from whydiff.engine.neighbours import asked
from whydiff.errors import OutOfRuns, Trouble
from whydiff.evidence.case import Case
from whydiff.evidence.floor import ULP_RUNS
from whydiff.evidence.sides.runnable import RunnableSide


def planned_runs(case: Case) -> dict:
    """Runs of each side that are certain, and in words what each cause adds. Loads no model."""
    live = [role for role, side in case.sides().items() if side.live]
    floor_role = live[0] if live else None
    plan: dict = {}
    for role, side in case.sides().items():
        if role not in live:
            kind = "a trace" if side.trace else "an image" if side.image else "settings"
            plan[role] = {"runs": 0, "words": f"0 runs ({kind})"}
            continue
        floor = 2 * ULP_RUNS if role == floor_role else 0
        beside = int(asked(side.live.call))
        runs = 3 + floor + beside
        plan[role] = {"runs": runs, "words": f"{runs} runs (1 recorded, 2 of A-B-A{f', {floor} for the noise floor' if floor else ''}"
                      f"{', 1 with other neighbours in its batch' if beside else ''})"}  # fmt: skip
    patient = "candidate" if "candidate" in live else floor_role
    plan["search"] = "no run (nothing can be run again)" if patient is None else \
        f"1 run of {patient} on the other side's inputs, about 2 for each cause, 1 for each cause's share of the image, and 1 with all repaired"
    if len(live) == 2:
        plan["search"] += f"; {2 * ULP_RUNS} of the candidate if the reference computes more coarsely inside than its tensors' types say"
    plan["certain"] = plan["reference"]["runs"] + plan["candidate"]["runs"] + (patient is not None)
    return plan


@contextlib.contextmanager
def at_most(runs: int | None) -> Iterator[None]:
    """While the context lasts, the run of a side that would be one too many raises OutOfRuns. None: no limit."""
    if runs is None:
        yield
        return
    run, done = RunnableSide.run, 0

    def counted(side, *args, **kwargs):
        nonlocal done
        if done >= runs:
            raise OutOfRuns(f"{runs} runs are used up")
        done += 1
        return run(side, *args, **kwargs)

    RunnableSide.run = counted
    try:
        yield
    except OutOfRuns as spent:
        raise Trouble(f"{spent} before both sides were recorded; there is no verdict. Raise --budget, or leave it out; "
                      "--dry-run says how many runs it takes.") from None  # fmt: skip
    finally:
        RunnableSide.run = run
