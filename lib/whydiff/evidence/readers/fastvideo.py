"""FastVideo's activation trace (fastvideo/hooks/activation_trace.py, read in 0.2.1): a .jsonl of figures, one line for each output.

`{"module": "blocks.0.norm", "tensor": "out", "step": 3, "abs_mean": ..., "sum": ...}` with the figures of FASTVIDEO_TRACE_STATS. Its
hooks are put on the transformer alone; `step` is that of its `trace_step`, and null in pipelines that have none.
"""

from __future__ import annotations

import collections
import json
import pathlib
import re

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.strangers import lines_of
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place

NAME, WHAT = "fastvideo", "FASTVIDEO_TRACE_OUTPUT, a .jsonl of figures"
_NAMES = {"std": "sample_std"}  # torch's own, over n - 1
_FIGURES = ("abs_mean", "sum", "min", "max", "mean", "std")


def matches(path: pathlib.Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".jsonl", ".json"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(1 << 16)
    try:
        line = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(line, dict) and {"module", "tensor", "step"} <= line.keys()


def read(path: pathlib.Path) -> Trace:
    """Every line as a place with figures. Raises Trouble for a damaged line; the last one may be cut short."""
    trace, seen, bad = Trace(), collections.Counter(), 0
    for number, text, ended in lines_of(path):
        limits.PLACES.check(len(trace.figures), path)
        try:
            line = json.loads(text)
            place = _place(line)
            figures = {_NAMES.get(name, name): float(line[name]) for name in _FIGURES if isinstance(line.get(name), (int, float))}
            shape = tuple(int(n) for n in line["shape"]) if isinstance(line.get("shape"), list) else None
            again = Place(place.probe, place.step, occurrence=seen[place], module=place.module)
            entry = Figured(again, figures, shape, _dtype(line), component="transformer")
            _ = entry.tensor  # a shape that no tensor has
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError):
            if not ended:  # killed while it wrote this line
                trace.complete = False
                break
            raise Trouble(f"{path}, line {number}: no line of an activation trace. Remove it to read the others.") from None
        bad += sum(str(value).startswith("<error") for value in line.values())
        seen[place] += 1
        trace.figures[again] = entry
    trace.producer = {"package": "fastvideo", "notes": list(_notes(trace, bad))}
    return trace


def _place(line: dict) -> Place:
    """`out` and `out[0]` are a module's output, `out[1]` and `out.key` its further ones."""
    label = re.sub(r"[\[\].]+", "/", str(line["tensor"])).strip("/").removeprefix("out").strip("/")
    probe = "modules" if label in ("", "0") else f"modules/{label}"
    step = line["step"]
    limits.STEP.check(step or 0, "step")
    return Place(probe, None if step is None else int(step), module=f"transformer/{line['module']}")


def _dtype(line: dict) -> str | None:
    return line["dtype"].removeprefix("torch.") if isinstance(line.get("dtype"), str) else None


def _notes(trace: Trace, bad: int):
    yield "only figures were recorded: where they agree, values may still differ"
    if any(entry.shape is None or entry.dtype is None for entry in trace.figures.values()):
        yield ("without shape and dtype, sums are not judged and 16 bit is assumed: record with "
               "FASTVIDEO_TRACE_STATS=abs_mean,sum,min,max,mean,std,shape,dtype")  # fmt: skip
    if any(place.occurrence for place in trace.figures):
        yield "a module that runs again within a step (guidance calls the network for each prompt) is a further occurrence"
    if bad:
        yield f"{bad} figures could not be taken by FastVideo and are left out"
