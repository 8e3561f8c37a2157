"""Readers: other tools' dumps as traces. One file for each tool, one line for it in `READERS`; none runs code from what it reads.

A reader is a module with `NAME`, `WHAT` (one line for `--help`), `matches(path) -> bool` (cheap: names and first bytes) and
`read(path) -> Trace`. What the dump does not say, and what was lost when it was written, goes into `producer["notes"]`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from types import ModuleType

from whydiff.errors import Trouble, did_you_mean, existing
from whydiff.evidence.readers import comfyui, fastvideo, folder, pictures, sglang
from whydiff.evidence.traces.archives import is_archive
from whydiff.evidence.traces.files import IMAGES, TENSORS, is_trace
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Trace

READERS: tuple[ModuleType, ...] = (sglang, fastvideo, comfyui, pictures, folder)  # the first that matches is taken


def import_dump(source, name: str | None = None) -> Trace:
    """The trace in `source` (file or folder), read as the format `name`, or as the first that recognises it.

    Raises Trouble where nothing is there, no reader recognises it, or it cannot be read.
    """
    path = existing(source)
    if name is None and is_trace(path):
        raise Trouble(f"{path} is a trace already: name it under `trace` in a case, or compare it with `whydiff compare`.")
    reader = _named(name) if name else next((reader for reader in READERS if reader.matches(path)), None)
    if reader is None:
        raise Trouble(f"{path} is in no format that whydiff knows. Known: {', '.join(_words())}. "
                      "Give --format to read it as one of them.")  # fmt: skip
    trace = reader.read(path)
    if not trace.places and not trace.settings:
        raise Trouble(f"{path}: read as {reader.NAME}, it holds no tensor and no setting.")
    trace.producer = {"format": reader.NAME, "name": path.name} | trace.producer
    return trace


def tools(path: pathlib.Path) -> bool:
    """Is this one tool's own dump, or the traces of several ranks, and no plain file or folder of tensors and pictures?"""
    if ranks_in(path):
        return True
    theirs = (reader for reader in READERS if reader not in (pictures, folder))
    return path.suffix.lower() not in TENSORS + IMAGES and any(reader.matches(path) for reader in theirs)


def _named(name: str) -> ModuleType:
    found = {reader.NAME: reader for reader in READERS}
    if name not in found:
        raise Trouble(f"--format {name}: no such format.{did_you_mean(name, found)} Known: {', '.join(_words())}.")
    return found[name]


def _words() -> list[str]:
    return [f"{reader.NAME} ({reader.WHAT})" for reader in READERS]


def read_evidence(path) -> Trace:
    """What a case names as a trace: one of ours (a folder or an archive), one of each rank in a folder, or another tool's dump."""
    path = pathlib.Path(path)
    if not path.exists() or is_trace(path) or is_archive(path) or path.name == "trace.jsonl":
        return read_trace(path)
    ranks = ranks_in(path)
    return read_ranks(ranks) if ranks else import_dump(path)


def ranks_in(path: pathlib.Path) -> dict[int, pathlib.Path]:
    """{rank: its trace} in the folder of a parallel run; empty for anything else."""
    return {int(found[1]): folder for folder in (sorted(path.iterdir()) if path.is_dir() else [])
            if is_trace(folder) and (found := re.search(r"rank[-_=]?([0-9]{1,6})", folder.name))}  # fmt: skip


def read_ranks(folders: dict[int, pathlib.Path]) -> Trace:
    """The traces of one parallel run as one, each place with its rank; what is said once for all is the lowest rank's."""
    traces = {rank: read_trace(folder) for rank, folder in sorted(folders.items())}
    first = next(iter(traces.values()))
    whole = Trace(producer=first.producer, settings=first.settings, environment=first.environment | {"ranks": len(traces)}, floor=first.floor,
                  complete=all(trace.complete for trace in traces.values()))  # fmt: skip
    for rank, trace in traces.items():
        for place, event in trace.events.items():
            whole.add(dataclasses.replace(event, place=dataclasses.replace(place, rank=rank)))
        for place, entry in trace.sketches.items():
            place = dataclasses.replace(place, rank=rank)
            whole.sketches[place] = dataclasses.replace(entry, place=place)
        for place, entry in trace.figures.items():
            place = dataclasses.replace(place, rank=rank)
            whole.figures[place] = dataclasses.replace(entry, place=place)
        whole.absent |= trace.absent
    return whole
