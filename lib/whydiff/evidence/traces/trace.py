"""A trace: what one implementation recorded during one run, in memory and as a folder.

The folder holds `trace.jsonl`, one line per event written as it happens, and small `tensors-*.safetensors` files. A
file is complete before the lines that name it are written, so a recording killed at any moment leaves every tensor
whose line was written. Reading never runs code from a trace.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

import torch

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.traces import figured
from whydiff.evidence.traces.archives import is_archive, unpacked
from whydiff.evidence.traces.tensor_files import tensor_sha256
from whydiff.measure import mapped
from whydiff.measure.sketches import Moments, Sketch, deviation, moments, numbers, sketch_of
from whydiff.places import Place, walk_key


def tensor_stats(tensor: torch.Tensor) -> dict:
    """Mean, std, min, max of the finite values and the number of non-finite ones."""
    if tensor.numel() == 0 or tensor.is_complex():
        return {"mean": None, "std": None, "min": None, "max": None, "nonfinite": 0}
    values = numbers(tensor)
    found = moments(values)
    return stats_of(found, deviation(values, found), len(values))


def stats_of(found: Moments, norm: float, count: int) -> dict:
    """A line's `stats` from moments already taken, the norm of the values less their mean, and their number."""
    if not found.count:
        return {"mean": None, "std": None, "min": None, "max": None, "nonfinite": count}
    return {"mean": found.mean, "std": norm / found.count**0.5, "min": found.low, "max": found.high, "nonfinite": count - found.count}


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@dataclasses.dataclass
class Event:
    """One recorded tensor. `component` names the module that received or made it, where the recorder knows it."""

    place: Place
    tensor: torch.Tensor
    device: str = "cpu"
    component: str | None = None
    injected: bool = False  # the run went on with another side's value

    def to_line(self, stats: dict | None = None) -> dict:
        """What a trace says of it, but for where its values lie."""
        place = dataclasses.asdict(self.place)
        return {"probe": place.pop("probe"), **place, "component": self.component, "shape": list(self.tensor.shape),
                "dtype": dtype_name(self.tensor), "device": self.device, "sha256": tensor_sha256(self.tensor),
                "stats": stats or tensor_stats(self.tensor), **({"injected": True} if self.injected else {})}  # fmt: skip

    def sketched_line(self) -> dict:
        """The line of a fingerprint."""
        values = numbers(self.tensor)
        found = moments(values)
        made = sketch_of(self.tensor, found)
        stats = None if self.tensor.is_complex() else stats_of(found, made.norm, len(values))
        return self.to_line(stats) | {"sketch": made.to_dict()}


@dataclasses.dataclass
class Sketched:
    """One tensor of which only a fingerprint was recorded. `tensor` is on the meta device: it has a shape and a type, no values."""

    place: Place
    tensor: torch.Tensor
    sketch: Sketch
    sha256: str
    nonfinite: int = 0
    device: str = "cpu"
    component: str | None = None
    injected: bool = False


class Trace:
    """Named tensors of one run, with their origin. Iterates over places in the order in which they were recorded."""

    def __init__(self, *, producer=None, settings=None, environment=None, floor=None, complete=True):
        self.producer: dict = producer or {}
        self.settings: dict = settings or {}
        self.environment: dict = environment or {}
        self.floor: dict[str, float] = floor or {}
        self.complete = complete
        self.events: dict[Place, Event] = {}
        self.sketches: dict[Place, Sketched] = {}  # places of which only a fingerprint was recorded
        self.figures: dict[Place, figured.Figured] = {}  # places of which only figures were recorded
        self.injection: dict = {}  # what was put into the run from another side's trace, if anything was
        self.calls: dict = {}  # how the run called its scheduler, as far as JSON can hold it
        self.encoders: list[dict] = []  # how its text encoders were called, where that was asked for (encoder_notes)
        self.moved: set[Place] = set()  # where an experiment put a value that differs from the run's own
        self.absent: set[Place] = set()  # arguments that the network knows and the run leaves out

    def add(self, event: Event) -> None:
        self.events[event.place] = event

    def __contains__(self, place: Place) -> bool:
        return place in self.events

    def __iter__(self):
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, place: Place | str) -> torch.Tensor:
        """The tensor at a place; a bare probe name means its first place. Raises Trouble with the recorded names."""
        if isinstance(place, str):
            place = next((p for p in self.events if p.probe == place), Place(place))
        if place in self.sketches or place in self.figures:
            known = "figures were" if place in self.figures else "a fingerprint was"
            raise Trouble(f"of {str(place)!r} only {known} recorded. Record at level full where its values are needed.")
        if place not in self.events:
            raise Trouble(f"{str(place)!r} was not recorded.{did_you_mean(place.probe, self.probes())} "
                          f"Recorded: {', '.join(self.probes()) or 'nothing'}. To record it, call "
                          f"whydiff.tap({place.probe!r}, tensor) where the tensor is made.")  # fmt: skip
        return self.events[place].tensor

    def get(self, probe: str, step: int | None = None, branch: str | None = None):
        """The tensor at a probe (and step), or None."""
        event = self.events.get(Place(probe, step, branch))
        return None if event is None else event.tensor

    def at(self, probe: str) -> list[Place]:
        """All places of a probe, in walking order."""
        return sorted((p for p in self.events if p.probe == probe), key=walk_key)

    @property
    def places(self) -> list[Place]:
        """Every place that was recorded: whole, as a fingerprint, or by figures alone."""
        return [*self.events, *self.sketches, *self.figures]

    def probes(self) -> list[str]:
        return list(dict.fromkeys(p.probe for p in self.places))

    @property
    def steps(self) -> int:
        """The number of sampler steps seen."""
        return 1 + max((p.step for p in self.places if p.step is not None), default=-1)

    def save(self, folder, level: str = "full") -> pathlib.Path:
        """Write a trace folder; at level "fingerprint" large tensors become sketches."""
        from whydiff.evidence.traces.trace_writer import TraceWriter

        with TraceWriter(folder, level=level, producer=self.producer, settings=self.settings, environment=self.environment) as out:
            for event in self.events.values():
                out.write(event)
            for entry in self.sketches.values():
                out.write_sketched(entry)
            for entry in self.figures.values():
                out.write_figures(entry)
            out.finish(self.floor, self.absent, self.injection)
        return pathlib.Path(folder)

    @classmethod
    def load(cls, folder) -> Trace:
        return read_trace(folder)


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
    leaves = mapped.large(path.parent.glob("*.safetensors"))
    whole = path.read_text(encoding="utf-8", errors="replace")
    texts = whole.split("\n")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(texts):  # killed while it wrote this line: everything before it is there
                break
            raise Trouble(f"{path}, line {number}: not JSON (a recording cut short?). "
                          "Remove that line to read what was written before it.") from None  # fmt: skip
        if not isinstance(line, dict):
            raise Trouble(f"{path}, line {number}: expected an object, found {type(line).__name__}.")
        if "probe" in line:
            _read_event(trace, line, path, number, files, leaves)
        else:
            _read_about(trace, line, f"{path}, line {number}")
    return trace


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


# What the keys of an event must hold, where they are given.
_KINDS = {"probe": str, "step": int, "branch": str, "occurrence": int, "module": str, "rank": int, "shape": list, "device": str}


def _floor(held, where: str) -> dict[str, float]:
    """{probe: relative distance}. Raises Trouble for anything else."""
    try:
        return {str(k): float(v) for k, v in held.items() if v is not None}
    except (AttributeError, TypeError, ValueError):
        raise Trouble(f"{where}: floor is {held!r}; expected {{probe: number}}.") from None


def _absent(held, where: str) -> set[Place]:
    """[{"probe": ..., "step": ..., "branch": ...}] as places. Raises Trouble for anything else."""
    try:
        return {Place(str(entry["probe"]), entry.get("step"), entry.get("branch")) for entry in held}
    except (AttributeError, KeyError, TypeError):
        raise Trouble(f"{where}: absent is {held!r}; expected a list of places.") from None


def _read_event(trace: Trace, line: dict, path: pathlib.Path, number: int, files: dict, leaves: bool) -> None:
    where = f"{path}, line {number}"
    wrong = next((k for k, kinds in _KINDS.items() if line.get(k) is not None and not isinstance(line[k], kinds)), None)
    if wrong is not None:
        raise Trouble(f"{where}: {wrong} is {line[wrong]!r}; expected {_KINDS[wrong].__name__}.")
    place = Place(str(line["probe"]), line.get("step"), line.get("branch"), line.get("occurrence") or 0,
                  line.get("module"), line.get("rank"))  # fmt: skip
    about = {"device": line.get("device") or "cpu", "component": line.get("component"), "injected": bool(line.get("injected"))}
    name, key = line.get("file"), line.get("key")
    if name is None:
        if line.get("sketch") is not None:
            trace.sketches[place] = _read_sketch(line, place, where, about)
        elif (entry := _read_figures(line, place, where, about)) is not None:
            trace.figures[place] = entry
        return
    if pathlib.PurePath(str(name)).name != name:
        raise Trouble(f"{where}: file {name!r} points outside the trace folder.")
    if name not in files:
        files[name] = _open_tensors(path.parent / name, where, leaves)
    key = str(key)
    if key not in files[name]:
        raise Trouble(f"{where}: {name} holds no tensor {key!r}.{did_you_mean(key, files[name])}")
    tensor = files[name][key]
    if line.get("shape") is not None and list(tensor.shape) != line["shape"]:
        raise Trouble(f"{where}: shape {line['shape']} was promised, {name} holds {list(tensor.shape)}.")
    trace.add(Event(place, tensor, **about))


def _read_sketch(line: dict, place: Place, where: str, about: dict) -> Sketched:
    """A line that has `sketch` instead of `file` and `key`. Raises Trouble for one that this version cannot read."""
    dtype = getattr(torch, str(line.get("dtype")), None)
    try:
        tensor = torch.empty(line["shape"], dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32, device="meta")
        return Sketched(place, tensor, Sketch.from_dict(line["sketch"]), str(line.get("sha256") or ""),
                        int((line.get("stats") or {}).get("nonfinite") or 0), **about)  # fmt: skip
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise Trouble(f"{where}: the sketch of {place} cannot be read: {error}. Record again with this version.") from None


def _read_figures(line: dict, place: Place, where: str, about: dict) -> figured.Figured | None:
    try:
        return figured.from_line(line, place, about)
    except (TypeError, ValueError) as error:
        raise Trouble(f"{where}: the stats of {place} cannot be read: {error}.") from None


def _open_tensors(path: pathlib.Path, where: str, leaves: bool) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError

    from whydiff.evidence.traces.mapped_files import map_tensors

    if not path.is_file():
        raise Trouble(f"{where}: {path.name} is missing. Copy the whole trace folder, or record again.")
    try:
        return map_tensors(path, leaves=leaves)
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise Trouble(f"{path}: not a whole safetensors file ({error}). It was cut short or is damaged: "
                      "copy it again, or record again.") from None  # fmt: skip
