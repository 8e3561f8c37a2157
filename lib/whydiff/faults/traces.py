"""Traces-only trials: both sides recorded as `whydiff record` does, then a case that has nothing but the two traces."""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

from whydiff.faults.plan import Plan

SIDES: dict[str, Any] = {}  # the pipelines that `reference` and `candidate` hand to the recorder


def reference():
    """The entry `traces.py:reference`; the recorder imports this file under another name, hence the detour."""
    from whydiff.faults.traces import SIDES

    return SIDES["reference"]


def candidate():
    from whydiff.faults.traces import SIDES

    return SIDES["candidate"]


def diagnosed(plan: Plan) -> dict[str, Any]:
    """The verdict on two traces, and the seconds it took once they were recorded."""
    import whydiff
    from whydiff.engine.recording import record_side
    from whydiff.faults.trial import planted, roles

    trial = planted(plan)
    sides = roles(plan, trial)
    with tempfile.TemporaryDirectory(prefix="whydiff-faults-") as folder:
        root = pathlib.Path(folder)
        for role, side in sides.items():
            SIDES[role] = side.pipeline
            record_side(f"{__file__}:{role}", root / role, build={}, call=side.call)
        case = root / "case.yaml"
        case.write_text("title: traces\nreference: {trace: reference}\ncandidate: {trace: candidate}\n", encoding="utf-8")
        start, cpu = time.perf_counter(), time.process_time()
        verdict = whydiff.diagnose(str(case))
        return {"verdict": verdict.to_dict(), "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}

