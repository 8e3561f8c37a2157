"""One side alone: run it, and write a trace with the noise floor of that side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from whydiff.engine import noise_floor
from whydiff.engine.lab import Lab
from whydiff.errors import Trouble
from whydiff.evidence.case import Case, Live, Record, Side
from whydiff.evidence.surroundings.environment import environment
from whydiff.evidence.traces.new_folder import new_folder, refuse_filled
from whydiff.evidence.traces.trace import Trace
from whydiff.evidence.traces.trace_writer import LEVELS


def record_side(entry: str, folder, *, build: dict[str, Any], call: dict[str, Any], modules: list[str] = (),
                floor: bool = True, level: str = "full", said: Callable[[str], None] = lambda text: None) -> Trace:  # fmt: skip
    """Run `FILE.py:FUNCTION` with `call` and write what it shows into `folder`, which must not exist or be empty.

    `floor` also runs it as it is once more, and with its values moved by one ulp; the result is stored in the trace.
    Paths are relative to the current folder. Raises Trouble when the side raises.
    """
    refuse_filled(folder)
    side = Side(live=Live(entry=entry, build=dict(build), call=dict(call)))
    # The other side of the case is never looked at.
    case = Case(title=entry, reference=side, candidate=Side(settings={"nothing": None}), record=Record(modules=list(modules)))
    lab = Lab(case, said)
    if level not in LEVELS:
        raise Trouble(f"--level {level!r} is not known. Use {' or '.join(LEVELS)}.")
    lab.load()
    lab.record_both(notes=True)
    trace = lab.traces["reference"]
    if floor:
        noise_floor.measure(lab)
        trace.floor = lab.floor.per_probe()
    trace.environment = trace.environment or environment()
    with new_folder(folder) as draft:
        trace.save(draft, level)
    return trace
