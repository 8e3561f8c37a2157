"""What a result depends on, as a short hash: the case, the files that it names, the code of its sides, and the versions that run it.

A case whose key is that of a stored result was done before. Nothing is imported for this: code is read, not run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator

from whydiff.evidence.case import Case
from whydiff.sweep.grid import Planned

VERSIONS = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy")
NOT_MEASURING = ("sweep", "commands", "faults")  # rooms whose code decides no verdict


def key(planned: Planned, *, notebooks: bool = False) -> str:
    """Of one case. The expectation is no part of it: it is held against the result afterwards."""
    case = planned.case()
    asked = {name: value for name, value in planned.data.items() if name != "expect"}
    told = [json.dumps(asked, sort_keys=True, default=str), str(planned.folder), planned.name, str(notebooks), *of_this_machine()]
    told += [text for side in case.sides().values() for text in _of_side(case, side)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]


@functools.cache
def of_this_machine() -> tuple[str, ...]:
    """What has to be the same wherever the cases of a sweep run: whydiff's code, and the libraries' versions."""
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} none")
    return (f"whydiff {_library()}", f"python {platform.python_version()}", *found)


@functools.cache
def _library() -> str:
    root = pathlib.Path(__file__).resolve().parents[1]
    files = (p for p in sorted(root.rglob("*.py")) if p.relative_to(root).parts[0] not in NOT_MEASURING)
    return hashlib.sha256("".join(_digest(p) for p in files).encode()).hexdigest()[:16]


def _of_side(case: Case, side) -> Iterator[str]:
    """The contents behind the paths that a side names."""
    for path in (side.trace, side.image, *side.injected):
        if path:
            yield from _contents(case.resolve(path))
    if side.live:
        entry = case.resolve(side.live.entry.rpartition(":")[0])
        yield from (f"{path.name} {_digest(path)}" for path in code_files(entry))
        if side.live.python:
            yield from _environment(case.interpreter(side.live.python))


def _contents(path: pathlib.Path) -> Iterator[str]:
    """Of a trace its index, which has a checksum of each tensor; of a file its size and time."""
    index = path / "trace.jsonl" if path.is_dir() else path
    if index.is_file() and index.name == "trace.jsonl":
        yield _digest(index)
    for file in sorted(path.rglob("*")) if path.is_dir() and not index.is_file() else [path]:
        if file.is_file():
            found = file.stat()
            yield f"{file.name} {found.st_size} {found.st_mtime_ns}"


def code_files(entry: pathlib.Path) -> list[pathlib.Path]:
    """The file of a side, and the files beside it that it imports, those that these import, and so on."""
    waiting, found = [entry], {}
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = None
        waiting += [beside for name in _imported(path) for beside in _beside(entry.parent, name)]
    return sorted(found)


@functools.cache
def _imported(path: pathlib.Path) -> frozenset[str]:
    """The first part of every name that a file imports; nothing where it is not Python."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return frozenset()
    names = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return frozenset(names)


@functools.cache
def _beside(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, ...]:
    package = folder / name
    return tuple(sorted(package.rglob("*.py"))) if (package / "__init__.py").is_file() or package.is_dir() else (folder / f"{name}.py",)


def _environment(python: pathlib.Path) -> Iterator[str]:
    """The interpreter of a side, and what is installed beside it."""
    yield f"{python} {os.path.realpath(python)}"
    for packages in sorted(python.parent.parent.glob("lib/python*/site-packages")):
        yield from sorted(path.name for path in packages.glob("*.dist-info"))


@functools.cache
def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
