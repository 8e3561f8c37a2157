"""Writes a trace folder, event by event: nothing that a line names is missing, however the recording ends."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import threading
import time

import torch

from whydiff.errors import Trouble
from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.tensor_files import plain_on_cpu, save_plainly, storable
from whydiff.evidence.traces.trace import Event, Sketched, facts_of, fingerprint_of, sketch_size
from whydiff.places import walk_key

FLUSH_BYTES = 8 << 20
FLUSH_TENSORS = 32
WHOLE = 2048  # elements up to which a fingerprint trace keeps a tensor whole (no more than a sketch has): sigmas, timesteps, ids
LEVELS = ("full", "fingerprint")


class Held:
    """A tensor as it is written: looked at once, and stored once by each writer, however many places show it. `ready` waits for its
    copy to arrive."""

    def __init__(self, tensor: torch.Tensor, ready=None):
        self.tensor, self.ready = tensor, ready
        self.size = tensor.numel() * tensor.element_size()
        self._lies: tuple = (None, {})  # the writer that stored it last, and the file and key there
        self._facts: dict[str, dict] = {}

    def arrived(self) -> torch.Tensor:
        if self.ready is not None:
            self.ready()
            self.ready = None
        return self.tensor

    def facts(self, level: str) -> dict:
        if level not in self._facts:
            tensor = storable(self.arrived())
            self._facts[level] = fingerprint_of(tensor) if level == "fingerprint" and tensor.numel() > WHOLE else facts_of(tensor)
        return self._facts[level]

    def lies(self, writer: object) -> dict:
        """File and key in the folder of the writer that calls itself so; nothing before it has stored it."""
        return self._lies[1] if self._lies[0] is writer else {}

    def stored(self, writer: object, file: str, key: str) -> None:
        self._lies = (writer, {"file": file, "key": key})


class TraceWriter:
    """Refuses a folder that already holds a trace."""

    def __init__(self, folder, *, level: str = "full", producer=None, settings=None, environment=None, injection=None):
        if level not in LEVELS:
            raise Trouble(f"level {level!r} is not known. Use {' or '.join(LEVELS)}.")
        self.folder, self.level = pathlib.Path(folder), level
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "trace.jsonl"
        if path.exists():
            raise Trouble(f"{path} exists already. Choose another folder, or remove the old trace first.")
        self.lines = path.open("x", encoding="utf-8")
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.me = object()  # what tensors remember of who stored them; not the writer, which would live as long as they
        self.pending: list[tuple[Event, Held]] = []
        self.since = 0.0  # when the first of them came
        self.pending_bytes = self.files = self.count = 0
        self._line({"schema": 1, "producer": producer or {}, "settings": settings or {}, "environment": environment or {},
                    **({"level": level} if level != "full" else {}), **({"injected": injection} if injection else {})})  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self.flush()
        self.lines.close()

    def abandon(self) -> None:
        """Close what can be written no longer."""
        with contextlib.suppress(OSError):
            self.lines.close()

    def _line(self, data: dict) -> None:
        self.lines.write(json.dumps(_plain(data), ensure_ascii=False) + "\n")
        self.lines.flush()

    def write(self, event: Event) -> None:
        held = event.held or Held(event.tensor)
        with self.lock:
            facts = held.facts(self.level)
            if "sketch" in facts:
                self._line(event.to_line(facts | {"sketch": facts["sketch"].folded(sketch_size(event.place)).to_dict()}))
                return
            self.since = self.since if self.pending else time.monotonic()
            self.pending.append((event, held))
            self.pending_bytes += 0 if held.lies(self.me) else held.size
            if self.pending_bytes >= FLUSH_BYTES or len(self.pending) >= FLUSH_TENSORS:
                self.flush()

    def write_sketched(self, entry: Sketched) -> None:
        """A fingerprint that was read from another trace."""
        plain = Event(entry.place, entry.tensor.new_empty(0, device="cpu"), entry.device, entry.component, entry.injected)
        self._line(plain.to_line() | {"shape": list(entry.tensor.shape), "sha256": entry.sha256, "stats": {"nonfinite": entry.nonfinite},
                                      "sketch": entry.sketch.to_dict()})  # fmt: skip

    def write_figures(self, entry: Figured) -> None:
        """A place of which nothing but figures is known."""
        self._line(entry.to_line())

    def flush(self) -> None:
        with self.lock:
            if not self.pending or self.lines.closed or os.getpid() != self.pid:
                return
            new = list({id(held): held for _, held in self.pending if not held.lies(self.me)}.values())
            if new:
                self.files += 1
                name = f"tensors-{self.files:05d}.safetensors"
                keyed = {str(self.count + i): held for i, held in enumerate(new)}
                save_plainly({key: plain_on_cpu(storable(held.arrived())) for key, held in keyed.items()}, self.folder / name)
                for key, held in keyed.items():
                    held.stored(self.me, name, key)
                self.count += len(new)
            for event, held in self.pending:
                self._line(event.to_line(held.facts(self.level)) | held.lies(self.me))
            self.pending, self.pending_bytes = [], 0

    def finish(self, floor: dict[str, float] | None = None, absent=(), injection=None, complete: bool = True,
               left_out: int = 0, **learnt) -> None:  # fmt: skip
        """Write what is pending; what was `learnt` after the first line (producer, settings); which arguments the network did
        without; the floor where one was measured; how many tensors were `left_out`; and the line that says the recording is whole."""
        self.flush()
        if absent:
            self._line({"absent": [{"probe": p.probe, "step": p.step, "branch": p.branch} for p in sorted(absent, key=walk_key)]})
        if floor:
            self._line({"floor": floor})
        if injection:
            self._line({"injected": injection})
        if any(learnt.values()):
            self._line({"learnt": learnt})
        if left_out:
            self._line({"left_out": left_out})
        if complete:
            self._line({"complete": True})


def _plain(value):
    """JSON knows no NaN and no tensor: both become something that can be read back."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
