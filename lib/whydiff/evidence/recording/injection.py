"""Injection from files: a run goes on with the tensors that another side's trace holds, on whatever machine that was recorded."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import pathlib

import torch

from whydiff.errors import Trouble
from whydiff.evidence.traces.tensor_files import read_tensor
from whydiff.places import Place, walk_key

MOST_LISTED = 200  # places left alone that a trace names


class Injection:
    """A recorder's `substitute` that reads from a trace folder, one tensor at a time.

    `at`: globs over probes and modules (`sigmas`, `model_input/*`, `transformer/blocks.3.*`), each perhaps with `@STEP`; nothing
    means every place. What the trace does not hold, or holds in another shape, is left alone and listed.
    """

    def __init__(self, trace, at=()):
        self.folder = pathlib.Path(trace)
        path = self.folder / "trace.jsonl"
        if not path.is_file():
            raise Trouble(f"{path}: no trace there to inject from. Give the folder of a trace.")
        self.at = [at] if isinstance(at, str) else list(at or ())
        text = path.read_bytes()
        self.digest = hashlib.sha256(text).hexdigest()
        self.lines: dict[Place, dict] = {}
        for line in filter(None, map(_read, text.decode("utf-8", "replace").splitlines())):
            self.lines[Place(line["probe"], line.get("step"), line.get("branch"), line.get("occurrence") or 0, line.get("module"))] = line
        self.seen: set[Place] = set()
        self.put = 0
        self.alone: dict[str, str] = {}  # place -> why nothing was put there

    def wants(self, place: Place) -> bool:
        return not self.at or any(matches(glob, place) for glob in self.at)

    def __call__(self, place: Place, own: torch.Tensor) -> torch.Tensor | None:
        if not self.wants(place):
            return None
        self.seen.add(place)
        line = self.lines.get(place)
        why = self._why_not(line, own)
        if why:
            self.alone[str(place)] = why
            return None
        try:
            tensor = read_tensor(self.folder / line["file"], str(line["key"]))
        except (OSError, ValueError, KeyError) as error:
            self.alone[str(place)] = f"cannot be read: {error}"
            return None
        self.put += 1
        return tensor

    def _why_not(self, line: dict | None, own: torch.Tensor) -> str:
        if line is None:
            return "the trace does not have it"
        if not line.get("file"):
            return "the trace has only a fingerprint of it"
        if pathlib.PurePath(str(line["file"])).name != line["file"]:
            return "its file lies outside the trace"
        return "" if line.get("shape") == list(own.shape) else f"shape {line.get('shape')} there, {list(own.shape)} here"

    def to_dict(self) -> dict:
        """What a trace says of it at the end."""
        missed = [place for place in sorted(self.lines, key=walk_key) if self.wants(place) and place not in self.seen]
        alone = self.alone | {str(place): "this run does not show it" for place in missed}
        return {**self.head(), "places": self.put, "left_alone": dict(list(alone.items())[:MOST_LISTED]), "left_alone_count": len(alone)}

    def head(self) -> dict:
        """What it says at the beginning: which trace (by its content, as folders are copied), and where."""
        return {"from": self.folder.name, "sha256": self.digest, "at": self.at}


def matches(glob: str, place: Place) -> bool:
    """Does a glob over probes and modules, perhaps with @STEP, mean this place?"""
    name, _, step = glob.partition("@")
    if step and str(place.step) != step:
        return False
    return any(fnmatch.fnmatchcase(known, name) for known in (place.probe, place.module) if known)


def _read(text: str) -> dict | None:
    """A line that has a tensor; a last line that was cut short has none."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("probe"), str) else None
