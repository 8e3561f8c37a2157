"""Readers: other tools' dumps as traces. One file for each tool, one line for it in `READERS`; none runs code from what it reads.

A reader is a module with `NAME`, `WHAT` (one line for `--help`), `matches(path) -> bool` (cheap: names and first bytes) and
`read(path) -> Trace`. What the dump does not say, and what was lost when it was written, goes into `producer["notes"]`.
"""

from __future__ import annotations

import pathlib
from types import ModuleType

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.files import existing
from whydiff.evidence.readers import comfyui, folder, pictures, sglang
from whydiff.evidence.trace import Trace

READERS: tuple[ModuleType, ...] = (sglang, comfyui, pictures, folder)  # the first that matches is taken


def import_dump(source, name: str | None = None) -> Trace:
    """The trace in `source` (file or folder), read as the format `name`, or as the first that recognises it.

    Raises Trouble where nothing is there, no reader recognises it, or it cannot be read.
    """
    path = existing(source)
    reader = _named(name) if name else next((reader for reader in READERS if reader.matches(path)), None)
    if reader is None:
        raise Trouble(f"{path} is in no format that whydiff knows. Known: {', '.join(_words())}. "
                      "Give --format to read it as one of them.")  # fmt: skip
    trace = reader.read(path)
    if not len(trace) and not trace.settings:
        raise Trouble(f"{path}: read as {reader.NAME}, it holds no tensor and no setting.")
    trace.producer = {"format": reader.NAME, "name": path.name} | trace.producer
    return trace


def _named(name: str) -> ModuleType:
    found = {reader.NAME: reader for reader in READERS}
    if name not in found:
        raise Trouble(f"--format {name}: no such format.{did_you_mean(name, found)} Known: {', '.join(_words())}.")
    return found[name]


def _words() -> list[str]:
    return [f"{reader.NAME} ({reader.WHAT})" for reader in READERS]


def known(path) -> bool:
    """Can a reader make a trace of this path?"""
    path = pathlib.Path(path)
    return path.exists() and any(reader.matches(path) for reader in READERS)
