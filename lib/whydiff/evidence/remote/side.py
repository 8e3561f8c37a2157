"""A side that runs in another interpreter, used like one that runs here."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

from whydiff.errors import Trouble
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.remote.child import Child
from whydiff.evidence.remote.session import Session, autocast
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.pictures import to_image
from whydiff.places import Place


class RemoteSide(RunnableSide):
    """The twin of a side that a child holds: `subject` and its components are proxies."""

    def __init__(self, python: pathlib.Path, path: pathlib.Path, function: str, call: dict[str, Any], *, role: str, name: str = "", build=None,
                 entry: str = "", child: Child | None = None):  # fmt: skip
        kept = child is not None  # what it has made already is called in another way
        self.session = Session(child or Child(interpreter(python, role), role))
        told = self.session.ask("load", {"path": str(path), "function": function, "call": call, "role": role, "name": name,
                                         "build": dict(build or {}), "entry": entry, "kept": kept})  # fmt: skip
        super().__init__(told["subject"], call, role=role, name=told["name"], build=build, entry=entry)
        self.environment, self.folder = told["environment"], path.parent
        self._sums: dict | None = None

    def _check_device(self) -> None:
        """The child has looked: a device it has, this process need not have."""

    @property
    def components(self) -> dict[str, Any]:
        return dict(self._components)

    @functools.cached_property
    def _components(self) -> dict[str, Any]:
        return super().components

    def left(self) -> Child:
        return self.session.child

    def remember(self) -> None:
        self.session.ask("remember", str(self.folder))

    def put_back(self, memory: None) -> bool:
        return self.session.ask("put_back")

    def identity(self) -> tuple:
        return self.known_identity or (*self.session.ask("identity"), self.environment["versions"])

    def checksums(self) -> dict[str, tuple[float, float]]:
        now = self.session.ask("checksums")
        if self._sums is not None:
            self.session.refresh({name for name, sums in now.items() if repr(sums) != repr(self._sums.get(name))}, self.components)
        self._sums = now
        return now

    def _run(self, recorder: Recorder, changes: dict[str, Any] | None, shaken: int | None) -> Trace:
        session, trace = self.session, recorder.trace
        session.mirror()
        session.recorder, session.earlier = recorder, session.registered()
        try:
            with recorder.listen(self.subject):
                told = session.ask("run", self._told(recorder, changes, shaken))
        except Trouble:
            raise
        except Exception as error:
            raise Trouble(f"{self.role} ({self.name}) raised {type(error).__name__}: {error}") from error
        finally:
            session.recorder = None
        session.refreshed(told["weights"])
        self.global_draws |= told["global_draws"]
        _add_image(recorder, told["image"])
        trace.producer, trace.settings, trace.environment = told["producer"], told["settings"], self.environment
        trace.calls, trace.encoders = told["calls"], told["encoders"]
        return trace

    def _told(self, recorder: Recorder, changes, shaken: int | None) -> dict:
        session = self.session
        return {"changes": changes, "modules": recorder.modules, "steps": recorder.steps, "notes": recorder.notes, "shaken": shaken,
                "looked_at": recorder.looked_at if recorder.look is not None else None, "unmatched": self.unmatched, "resized": self.resized,
                "answers": recorder.substitute is not None, "autocast": autocast(),
                "before": session.hooked(lambda number: number in session.earlier),
                "after": session.hooked(lambda number: number not in session.earlier)}  # fmt: skip


def _add_image(recorder: Recorder, found) -> None:
    """What the side returned is `image`, unless its code tapped `image` itself."""
    place = Place("image")
    if place in recorder.trace:
        recorder.trace.events[place].tensor = to_image(recorder.trace[place])[0]
    elif found is not None:
        recorder.keep(Event(place, found[0], component=found[1]))


def interpreter(python: pathlib.Path, role: str) -> pathlib.Path:
    """The interpreter, as named: a link in a virtual environment is not followed, as it is what makes the environment."""
    if not python.is_file():
        raise Trouble(f"{role}: live.python {python} does not exist. Name the interpreter of the environment, such as venv/bin/python.")
    return python
