"""Sides that stay loaded from case to case, and what they showed when they ran alone.

A side is put back as it was loaded after each case, and kept only if its fingerprint says that it is: code, weights, buffers,
configuration and attributes. Where one keeps something of a request for the next (what A-B-A finds), or where what its files hold for
the whole process has changed, all is loaded anew, the files too.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import pathlib
import sys
from collections import OrderedDict
from typing import Any

from whydiff.engine.alone import Alone, Store
from whydiff.engine.study import Study
from whydiff.evidence.case import Case
from whydiff.evidence.sides.as_loaded import FilesAsLoaded, files_of
from whydiff.evidence.sides.loading import load_side
from whydiff.evidence.sides.memory import leaves_room
from whydiff.evidence.sides.runnable import RunnableSide
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
        self._files: dict[pathlib.Path, FilesAsLoaded] = {}  # by folder: what the files of sides held before they ran
        self._stained = False  # what files hold was changed by loading a side: others of the same files would see it
        self._out: dict[str, tuple[RunnableSide, Kept]] = {}  # by role: what the case that runs now holds

    def begin(self) -> None:
        """Before each case: the process as it was at first."""
        self._out, self._files, self._stained = {}, {}, False
        process_state.put(self.before)

    def load(self, case: Case, role: str) -> RunnableSide:
        key, folder = side_key(case, role), entry_folder(case, role)
        found = self.kept.pop(key, None)
        if found is None:
            self._make_room(case)
            state, files = process_state.read(), FilesAsLoaded(folder)
            side = load_side(case, role)
            self.loaded += 1
            sets = process_state.change(state, process_state.read())
            memory, identity = side.remember(), side.identity()
            if files.changed():
                self._stained = True
                self.kept.clear()
        else:
            process_state.put(process_state.read() | found.sets)
            side, memory, identity, sets = load_side(case, role, found.left), found.memory, found.identity, found.sets
        side.known_identity = identity
        self._files[folder] = FilesAsLoaded(folder)
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
        if leaks or self._stained or any(files.changed() for files in self._files.values()):
            self.kept.clear()
            for folder in self._files:
                _forget(folder)
            return
        for role, (side, kept) in out.items():
            kept.left, side.known_identity = None if study.lab.apart else side.left(), None
            if kept.left is None:
                continue
            if not side.put_back(kept.memory) or side.identity() != kept.identity:
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


def entry_folder(case: Case, role: str) -> pathlib.Path:
    return case.resolve(getattr(case, role).live.entry.rpartition(":")[0]).parent


def _forget(folder: pathlib.Path) -> None:
    """Files of a folder are imported again when they are next needed: what they hold for the whole process is gone with them."""
    for module in files_of(folder):
        sys.modules.pop(module.__name__, None)
