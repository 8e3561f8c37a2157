"""Writes a trace folder, event by event: nothing that a line names is missing, however the recording ends."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import threading

from whydiff.errors import Trouble
from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.tensor_files import save_tensors, storable
from whydiff.evidence.traces.trace import Event, Sketched
from whydiff.places import walk_key

FLUSH_BYTES = 8 << 20
FLUSH_TENSORS = 32
FLUSH_SECONDS = 1.0
WHOLE = 2048  # elements up to which a fingerprint trace keeps a tensor whole (no more than a sketch has): sigmas, timesteps, ids
LEVELS = ("full", "fingerprint")


class TraceWriter:
    """Refuses a folder that already holds a trace. With `hurry`, nothing waits for longer than a second to be written: for runs
    that somebody may kill."""

    def __init__(self, folder, *, level: str = "full", producer=None, settings=None, environment=None, injection=None, hurry=False):
        if level not in LEVELS:
            raise Trouble(f"level {level!r} is not known. Use {' or '.join(LEVELS)}.")
        self.folder, self.level, self.hurry = pathlib.Path(folder), level, hurry
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "trace.jsonl"
        if path.exists():
            raise Trouble(f"{path} exists already. Choose another folder, or remove the old trace first.")
        self.lines = path.open("x", encoding="utf-8")
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.pending: list[Event] = []
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

    def _line(self, data: dict) -> None:
        self.lines.write(json.dumps(_plain(data), ensure_ascii=False) + "\n")
        self.lines.flush()

    def write(self, event: Event) -> None:
        event = dataclasses.replace(event, tensor=storable(event.tensor))
        with self.lock:
            if self.level == "fingerprint" and event.tensor.numel() > WHOLE:
                self._line(event.sketched_line())
                return
            self.pending.append(event)
            self.pending_bytes += event.tensor.numel() * event.tensor.element_size()
            if self.pending_bytes >= FLUSH_BYTES or len(self.pending) >= FLUSH_TENSORS:
                self.flush()
            elif self.hurry and len(self.pending) == 1:
                timer = threading.Timer(FLUSH_SECONDS, self.flush)
                timer.daemon = True
                timer.start()

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
            self.files += 1
            name = f"tensors-{self.files:05d}.safetensors"
            keyed = {str(self.count + i): event for i, event in enumerate(self.pending)}
            save_tensors({key: event.tensor.contiguous().clone() for key, event in keyed.items()}, self.folder / name)
            for key, event in keyed.items():
                self._line(event.to_line() | {"file": name, "key": key})
            self.count += len(keyed)
            self.pending, self.pending_bytes = [], 0

    def finish(self, floor: dict[str, float] | None = None, absent=(), injection=None, complete: bool = True, **learnt) -> None:
        """Write what is pending; what was `learnt` after the first line (producer, settings); which arguments the network did
        without; the floor where one was measured; and the line that says the recording is whole."""
        self.flush()
        if absent:
            self._line({"absent": [{"probe": p.probe, "step": p.step, "branch": p.branch} for p in sorted(absent, key=walk_key)]})
        if floor:
            self._line({"floor": floor})
        if injection:
            self._line({"injected": injection})
        if any(learnt.values()):
            self._line({"learnt": learnt})
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
