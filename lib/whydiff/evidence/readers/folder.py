"""A file, or a folder of files, of plain tensors: .npy, .npz, .pt, .safetensors, and .json for settings."""

from __future__ import annotations

import collections
import dataclasses
import pathlib

from whydiff import limits
from whydiff.evidence.readers.names import place_of
from whydiff.evidence.traces.files import IMAGES, TENSORS, read_tensors
from whydiff.evidence.traces.strangers import inside, json_file
from whydiff.evidence.traces.trace import Event, Trace

NAME, WHAT = "folder", f"a file or a folder of {', '.join(TENSORS)} and .json settings"


def matches(path: pathlib.Path) -> bool:
    return next(_files(path), None) is not None


def _files(path: pathlib.Path):
    known = (*TENSORS, *IMAGES, ".json")
    if path.is_file():
        return iter([path] if path.suffix.lower() in TENSORS else [])
    return (file for file in sorted(path.rglob("*")) if file.suffix.lower() in known and file.is_file())


def read(path: pathlib.Path) -> Trace:
    """Every tensor under the place that its file's name (and its key in the file) means. Raises Trouble for unreadable files."""
    trace, seen, unread = Trace(), collections.Counter(), []
    for number, file in enumerate(_files(path), 1):
        limits.FILES.check(number, f"{path} (name the folder of one run)")
        inside(file, path if path.is_dir() else path.parent)
        if file.suffix.lower() == ".json":
            trace.settings |= _settings(file, unread)
            continue
        stem = file.stem if path.is_file() else file.relative_to(path).with_suffix("").as_posix()
        for key, tensor in read_tensors(file).items():
            label = key if path.is_file() and key else "/".join(part for part in (stem, key) if part)
            place = place_of(label)
            bits = "8 bit" if file.suffix.lower() in IMAGES else None
            trace.add(Event(dataclasses.replace(place, occurrence=seen[place]), tensor, component=bits))
            seen[place] += 1
    trace.producer = {"notes": [f"not read, no settings in it: {', '.join(unread)}"] if unread else []}
    return trace


def _settings(file: pathlib.Path, unread: list[str]) -> dict:
    """The plain values of a JSON object; a list of numbers or a nested object is no setting."""
    held = json_file(file)
    plain = {k: v for k, v in held.items() if isinstance(v, (str, int, float, bool))} if isinstance(held, dict) else {}
    if not plain:
        unread.append(file.name)
    return plain
