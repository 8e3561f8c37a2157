"""A trace read from its folder: every line is checked before it is believed, and what is wrong is said with its file and line."""

from __future__ import annotations

import json
import math
import pathlib

import torch

from whydiff import limits
from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.traces import figured
from whydiff.evidence.traces.archives import is_archive, unpacked
from whydiff.evidence.traces.strangers import inside, is_plain_name, lines_of
from whydiff.evidence.traces.trace import Event, Sketched, Trace
from whydiff.evidence.traces.usable import from_safetensors
from whydiff.measure import mapped
from whydiff.measure.sketches import Sketch
from whydiff.places import Place

# What the keys of an event must hold, where they are given.
_KINDS = {"probe": str, "step": int, "branch": str, "occurrence": int, "module": str, "rank": int, "shape": list, "device": str,
          "component": str, "dtype": str}  # fmt: skip


def read_trace(folder) -> Trace:
    """The trace in `folder`. Raises Trouble for a missing, truncated or inconsistent one, naming the file and line."""
    folder = pathlib.Path(folder)
    if is_archive(folder):
        with unpacked(folder) as inner:
            return read_trace(inner)
    path = folder / "trace.jsonl" if folder.is_dir() else folder
    if not path.is_file():
        raise Trouble(f"{path}: no trace there. A trace is a folder with trace.jsonl; `whydiff record` makes one.")
    trace = Trace(complete=False)
    files: dict[str, dict] = {}
    leaves = mapped.large(file for file in path.parent.glob("*.safetensors") if file.is_file())
    most = limits.PLACES.most
    for number, text, ended in lines_of(inside(path, path.parent)):
        where = f"{path}, line {number}"
        line = _line(text, where, ended)
        if line is None:  # killed while it wrote this line: everything before it is there
            break
        if "probe" in line:
            _read_event(trace, line, path, where, files, leaves)
            if number > most and len(trace.events) + len(trace.sketches) + len(trace.figures) > most:
                limits.PLACES.check(number, path)
        else:
            _read_about(trace, line, where)
    return trace


def _line(text: str, where: str, ended: bool) -> dict | None:
    """None for a last line that was cut short."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        if not ended:
            return None
        raise Trouble(f"{where}: not JSON (a recording cut short?). "
                      "Remove that line to read what was written before it.") from None  # fmt: skip
    if not isinstance(line, dict):
        raise Trouble(f"{where}: expected an object, found {type(line).__name__}.")
    if "probe" not in line:  # of an event, every value is looked at by itself
        limits.check_values(line, where)
    return line


def _read_about(trace: Trace, line: dict, where: str) -> None:
    """A line about the whole recording."""
    if "schema" in line:
        if line["schema"] != 1:
            raise Trouble(f"{where}: schema {line['schema']!r}; this whydiff reads schema 1.")
        trace.producer, trace.settings, trace.environment = (
            line.get(k) if isinstance(line.get(k), dict) else {} for k in ("producer", "settings", "environment"))  # fmt: skip
    if "floor" in line:
        trace.floor = _floor(line["floor"], where)
    elif "absent" in line:
        trace.absent = _absent(line["absent"], where)
    elif "complete" in line:
        trace.complete = bool(line["complete"])
    elif isinstance(line.get("injected"), dict):
        trace.injection = trace.injection | line["injected"]
    elif isinstance(line.get("learnt"), dict):  # what the recorder knew only at the end
        for name in ("producer", "settings"):
            if isinstance(line["learnt"].get(name), dict):
                setattr(trace, name, getattr(trace, name) | line["learnt"][name])


def _floor(held, where: str) -> dict[str, float]:
    """{probe: relative distance}. Raises Trouble for anything else: a floor that is not finite would call everything noise."""
    try:
        floor = {str(k): float(v) for k, v in held.items() if v is not None}
        if all(0 <= v < math.inf for v in floor.values()):
            return floor
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    raise Trouble(f"{where}: floor is {str(held)[:200]}; expected {{probe: number}}, 0 or more.") from None


def _absent(held, where: str) -> set[Place]:
    """[{"probe": ..., "step": ..., "branch": ...}] as places. Raises Trouble for anything else."""
    try:
        return {_place(entry, where) for entry in held}
    except (AttributeError, KeyError, TypeError):
        raise Trouble(f"{where}: absent is {str(held)[:200]}; expected a list of places.") from None


def _place(line: dict, where: str) -> Place:
    """The place that a line names. Raises Trouble for keys of another kind, and for numbers that count nothing."""
    for key, kind in _KINDS.items():
        value = line.get(key)
        if value is not None and (not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0))):
            raise Trouble(f"{where}: {key} is {str(value)[:100]!r}; expected {kind.__name__}{', from 0' if kind is int else ''}.")
    for key in ("step", "occurrence", "rank"):
        limits.STEP.check(line.get(key) or 0, f"{where}, {key}")
    return Place(line["probe"], line.get("step"), line.get("branch"), line.get("occurrence") or 0, line.get("module"), line.get("rank"))


def _read_event(trace: Trace, line: dict, path: pathlib.Path, where: str, files: dict, leaves: bool) -> None:
    if line["probe"] is None:
        raise Trouble(f"{where}: probe is None; expected str.")
    place = _place(line, where)
    about = {"device": line.get("device") or "cpu", "component": line.get("component"), "injected": bool(line.get("injected"))}
    name, key = line.get("file"), line.get("key")
    if name is None:
        if line.get("sketch") is not None:
            trace.sketches[place] = _read_sketch(line, place, where, about)
        elif (entry := _read_figures(line, place, where, about)) is not None:
            trace.figures[place] = entry
        return
    if not is_plain_name(name):
        raise Trouble(f"{where}: file {str(name)[:100]!r} points outside the trace folder.")
    if name not in files:
        files[name] = _open_tensors(path.parent / name, where, leaves)
    key = str(key)
    if key not in files[name]:
        raise Trouble(f"{where}: {name} holds no tensor {key[:100]!r}.{did_you_mean(key[:100], list(files[name])[:1000])}")
    tensor = files[name][key]
    if line.get("shape") is not None and list(tensor.shape) != line["shape"]:
        raise Trouble(f"{where}: shape {str(line['shape'])[:100]} was promised, {name} holds {list(tensor.shape)}.")
    trace.add(Event(place, tensor, **about))


def _open_tensors(path: pathlib.Path, where: str, leaves: bool) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise Trouble(f"{where}: {path.name} is missing. Copy the whole trace folder, or record again.")
    return from_safetensors(inside(path, path.parent, where), leaves)


def _read_sketch(line: dict, place: Place, where: str, about: dict) -> Sketched:
    """A line that has `sketch` instead of `file` and `key`. Raises Trouble for one that this version cannot read."""
    dtype = getattr(torch, line.get("dtype") or "", None)
    try:
        tensor = torch.empty(line["shape"], dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32, device="meta")
        nonfinite = int((line.get("stats") or {}).get("nonfinite") or 0)
        return Sketched(place, tensor, Sketch.from_dict(line["sketch"]), str(line.get("sha256") or ""), nonfinite, **about)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise Trouble(f"{where}: the sketch of {place} cannot be read: {error}. Record again with this version.") from None


def _read_figures(line: dict, place: Place, where: str, about: dict) -> figured.Figured | None:
    try:
        return figured.from_line(line, place, about)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise Trouble(f"{where}: the stats of {place} cannot be read: {error}.") from None
