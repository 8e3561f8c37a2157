"""SGLang's `dumper` (sglang/srt/debug_utils/dumper.py, read in 0.5.10 and 0.5.23): a folder of .pt files, one for each tensor.

The tags stand in the file's name, `step=1___rank=0___dump_index=3___name=latents___layer_id=2.pt`, and inside as
`{"value": tensor, "meta": {...}}`; files of older versions hold the bare tensor. `step` counts the engine's iterations from 0.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re

import torch

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.readers.names import place_of
from whydiff.evidence.traces.files import load_plain
from whydiff.evidence.traces.strangers import inside
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import STAGE_OF_PROBE, Place, family

NAME, WHAT = "sglang", "a folder written by SGLang's dumper"
_OURS = ("step", "rank", "dump_index", "name", "forward_pass_id", "recompute_status")
_HOOKED = "non_intrusive__"  # before the name of what its module hooks dump
_PARAMETERS = ("param__", "grad__")  # weights and gradients: no tensors of a run


def matches(path: pathlib.Path) -> bool:
    return path.is_dir() and next(_files(path), None) is not None


def _files(path: pathlib.Path):
    return (file for file in sorted(path.rglob("*.pt")) if "___" in file.stem and tags(file).get("name"))


def read(path: pathlib.Path) -> Trace:
    """Every dumped tensor, in the order of `dump_index`, with its step and rank. Raises Trouble for a file that is damaged."""
    files = sorted(_files(path), key=lambda file: (_number(tags(file).get("rank")), _number(tags(file).get("dump_index"))))
    limits.FILES.check(len(files), path)
    if not files:
        raise Trouble(f"{path} holds no file of SGLang's dumper (step=..___rank=..___dump_index=..___name=...pt).")
    ranks = sorted({_number(tags(file).get("rank")) for file in files})
    trace, seen, notes, meta = Trace(), collections.Counter(), [], {}
    for file in files:
        found = tags(file)
        if found["name"].startswith(_PARAMETERS):
            continue
        held = load_plain(inside(file, path))
        if isinstance(held, dict) and "value" in held:
            told = held.get("meta") if isinstance(held.get("meta"), dict) else {}
            meta |= {k: v for k, v in told.items() if k not in found and isinstance(v, (str, int, float, bool))}
            held = held["value"]
        for key, tensor in _tensors(held):
            place = _place(found, key, _number(found.get("rank")) if len(ranks) > 1 else None)
            trace.add(Event(dataclasses.replace(place, occurrence=seen[place]), tensor))
            seen[place] += 1
    if len(ranks) > 1:
        notes.append(f"dumped by {len(ranks)} ranks; a tensor of each is kept, to be put together when it is compared")
    trace.producer = {"package": "sglang", "notes": notes, "meta": meta}
    return trace


def _place(found: dict[str, str], key: str, rank: int | None) -> Place:
    """Where a tensor was dumped: a probe of the contract by its name, otherwise a module with its further tags (`layer_id=3`)."""
    step = found.get("step", found.get("forward_pass_id", ""))
    step = _number(step) if re.fullmatch("[0-9]+", step) else None
    name = found["name"]
    if name.startswith(_HOOKED):
        return Place("modules", step, module=".".join(part for part in (name.removeprefix(_HOOKED), key) if part), rank=rank)
    place = place_of(name, step, rank=rank)
    further = [f"{key}={value}" for key, value in found.items() if key not in _OURS]
    if family(place.probe) in STAGE_OF_PROBE or not (further or key):
        return place
    return Place("modules", step, module=".".join(part for part in (*further, name, key) if part), rank=rank)


def tags(file: pathlib.Path) -> dict[str, str]:
    """`a=1___b=2.pt` -> {"a": "1", "b": "2"}."""
    return dict(part.split("=", 1) for part in file.stem.split("___") if "=" in part)


def _number(text: str | None) -> int:
    """Of a tag; 0 where there is none, or no number that counts something."""
    number = int(text) if text and re.fullmatch("[0-9]{1,99}", text) else 0
    limits.STEP.check(number, "a step, rank or index")
    return number


def _tensors(held):
    if isinstance(held, torch.Tensor):
        yield "", held.detach()
    elif isinstance(held, (list, tuple, dict)):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            if isinstance(value, torch.Tensor):
                yield str(key), value.detach()
