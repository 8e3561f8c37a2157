"""Sides that stay loaded from case to case, and what they showed when they ran alone.

A side is put back as it was loaded after each case, and kept only if its fingerprint says that it is: code, weights, buffers,
configuration and attributes. One that keeps something of a request for the next
(what A-B-A finds) is loaded anew for each case, and so is its file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import sys
from collections import OrderedDict
from typing import Any

from whydiff.engine.alone import Alone, Store
from whydiff.engine.study import Study
from whydiff.evidence.case import Case
from whydiff.evidence.sides.loading import load_side
from whydiff.evidence.sides.runnable import SIDE_MODULE, RunnableSide, leaves_room
from whydiff.sweep import process_state

SIDES = 6  # kept at most
RECORDINGS = 1 << 30  # bytes of recordings kept at most


@dataclasses.dataclass
class Kept:
    """A side between two cases."""

    left: Any  # what it is made of: see `RunnableSide.left`
    memory: Any  # what it held when it was loaded: see `RunnableSide.remember`
    identity: tuple
    sets: dict[str, Any]  # what it set for the whole process
    leaves_room: bool


class Pool(Store):
    """The store of one worker process. `loaded` counts sides that had to be loaded, `shared` recordings that were there."""

    def __init__(self):
        self.kept: OrderedDict[str, Kept] = OrderedDict()
        self.recordings: OrderedDict[str, Alone] = OrderedDict()
        self.before: dict[str, Any] = process_state.read()
        self.loaded = self.shared = 0
        self._out: dict[str, tuple[RunnableSide, Kept]] = {}  # by role: what the case that runs now holds

    def begin(self) -> None:
        """Before each case: the process as it was at first."""
        self._out = {}
        process_state.put(self.before)

    def load(self, case: Case, role: str) -> RunnableSide:
        key = side_key(case, role)
        found = self.kept.pop(key, None)
        if found is None:
            self._make_room(case)
            state = process_state.read()
            side = load_side(case, role)
            self.loaded += 1
            sets = process_state.change(state, process_state.read())
            memory, identity = side.remember(), side.identity()
        else:
            process_state.put(process_state.read() | found.sets)
            side, memory, identity, sets = load_side(case, role, found.left), found.memory, found.identity, found.sets
        side.known_identity = identity
        self._out[role] = side, Kept(None, memory, identity, sets, True)
        return side

    def alone(self, case: Case, role: str) -> Alone:
        key = recording_key(case, role)
        self.shared += key in self.recordings
        return self.recordings.pop(key, None) or Alone()

    def keep(self, study: Study) -> None:
        """After a case: keep its sides as far as they are what they were, and what they showed alone."""
        leaks = any(entry.stage == "state_leakage" for entry in study.verdict.causes) or any(
            entry["stage"] == "state_leakage" for entry in study.verdict.unexplained)  # fmt: skip
        out, self._out = self._out, {}
        if leaks:
            _forget_files()
            return
        for role, (side, kept) in out.items():
            kept.left, side.known_identity = None if study.lab.apart else side.left(), None
            if kept.left is None:
                continue
            side.put_back(kept.memory)
            if side.identity() != kept.identity:
                continue
            kept.leaves_room = side.can_be_made_again and leaves_room(side)
            self.kept[side_key(study.case, role)] = kept
            if (alone := study.lab.alone[role]).repeats_itself:
                self.recordings[recording_key(study.case, role)] = alone
        while len(self.kept) > SIDES:
            self.kept.popitem(last=False)
        while sum(alone.bytes for alone in self.recordings.values()) > RECORDINGS:
            self.recordings.popitem(last=False)

    def _make_room(self, case: Case) -> None:
        """Before a side is loaded: what this case does not need goes, the oldest first, where memory is short or places are."""
        needed = {side_key(case, role) for role, side in case.sides().items() if side.live}
        tight = not all(kept.leaves_room for kept in self.kept.values())
        for key in [key for key in self.kept if key not in needed]:
            if tight or len(self.kept) >= SIDES:
                del self.kept[key]
        gc.collect()


def side_key(case: Case, role: str) -> str:
    """What a side is loaded from. The role is part of it: the sides of one case are two, also where they are alike."""
    live = getattr(case, role).live
    file, _, function = live.entry.rpartition(":")
    path = case.resolve(file)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    python = str(case.interpreter(live.python)) if live.python else ""
    return json.dumps([role, str(path), stamp, function, live.build, python], sort_keys=True, default=str)


def recording_key(case: Case, role: str) -> str:
    """What the runs of a side alone depend on: the side, its call, and what of it is recorded."""
    live = getattr(case, role).live
    return json.dumps([side_key(case, role), live.call, case.record.model_dump()], sort_keys=True, default=str)


def _forget_files() -> None:
    """Files of sides are imported again when they are next needed: what they hold for the whole process is gone with them."""
    for name in [name for name in sys.modules if name.startswith(SIDE_MODULE)]:
        with contextlib.suppress(KeyError):
            del sys.modules[name]
