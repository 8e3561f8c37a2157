"""A trace: what one implementation recorded during one run, in memory and as a folder.

The folder holds `trace.jsonl`, one line per event written as it happens, and small `tensors-*.safetensors` files. A
file is complete before the lines that name it are written, so a recording killed at any moment leaves every tensor
whose line was written. Reading never runs code from a trace.
"""

from __future__ import annotations

import dataclasses
import pathlib

import torch

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.traces import figured
from whydiff.evidence.traces.tensor_files import tensor_sha256
from whydiff.measure.sketches import SIZE, SMALL, Moments, Sketch, deviation, looked_at, moments, numbers
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
    held: object = None  # what places that show one tensor share: see recording/copies.py

    def to_line(self, facts: dict | None = None) -> dict:
        """What a trace says of it, but for where its values lie. `facts`: those of its tensor, if they are known already."""
        place = dataclasses.asdict(self.place)
        return {"probe": place.pop("probe"), **place, "component": self.component, "device": self.device,
                **(facts or facts_of(self.tensor)), **({"injected": True} if self.injected else {})}  # fmt: skip


def facts_of(tensor: torch.Tensor, stats: dict | None = None) -> dict:
    """What a line says of a tensor's values."""
    return {"shape": list(tensor.shape), "dtype": dtype_name(tensor), "sha256": tensor_sha256(tensor), "stats": stats or tensor_stats(tensor)}


def fingerprint_of(tensor: torch.Tensor) -> dict:
    """As `facts_of`, and the sketch that stands for the values themselves."""
    made, found = looked_at(tensor)
    stats = None if tensor.is_complex() else stats_of(found, made.norm, tensor.numel())
    return facts_of(tensor, stats) | {"sketch": made}


def sketch_size(place: Place) -> int:
    """How many numbers a fingerprint keeps of a tensor. Modules are many, and each is asked no more than whether it departs."""
    return SIZE if place.module is None else SMALL


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
        from whydiff.evidence.traces.reading import read_trace

        return read_trace(folder)
