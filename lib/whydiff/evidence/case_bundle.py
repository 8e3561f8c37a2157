"""A case from somebody else: a bundle (.zip), or the folder that one was unpacked into. What it says is read; nothing of it is run.

A case's `live` names code, and an interpreter for it. In a case of one's own that is the point; in a bundle it runs only with
`--trust`, and the traces and pictures that it names lie in the bundle.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from whydiff.errors import Trouble

TRUST = "WHYDIFF_TRUST"  # in the environment, so that the notebooks' kernels know of it
MARK = ".whydiff-bundle"  # beside a case that was unpacked here
_BESIDE = ("verdict.json", "environment.json", "settings.json")  # what `whydiff bundle` puts beside its case.yaml
_SUFFIXES = (".yaml", ".yml")


@contextlib.contextmanager
def case_file(path, trust: bool = False) -> Iterator[str]:
    """The path of a case: `path` itself, or the case in a bundle, unpacked for as long as the context lasts. `trust`: its code may run."""
    from whydiff.evidence.traces.archives import members_of, take

    with contextlib.ExitStack() as stack:
        if trust:
            stack.enter_context(_trusted())
        found = pathlib.Path(path)
        if found.suffix.lower() != ".zip" or not found.is_file():
            yield str(path)
            return
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whydiff-bundle-")))
        with members_of(found) as members:
            cases = [name for name in members if "/" not in name and name.lower().endswith(_SUFFIXES)]
            if len(cases) != 1:
                raise Trouble(f"{path}: a bundle holds one case (case.yaml); this one holds {len(cases) or 'none'}. `whydiff bundle` makes one.")
            names = {name: name for name in members} | {cases[0]: f"{found.stem}.yaml"}
            take(found, members, names, folder)
        (folder / MARK).touch()
        yield str(folder / f"{found.stem}.yaml")


@contextlib.contextmanager
def _trusted() -> Iterator[None]:
    before = os.environ.get(TRUST)
    os.environ[TRUST] = "1"
    try:
        yield
    finally:
        os.environ.pop(TRUST, None) if before is None else os.environ.__setitem__(TRUST, before)


def from_elsewhere(path: pathlib.Path) -> bool:
    """Is this the case of a bundle, unpacked here or by hand?"""
    folder = path.resolve().parent
    return (folder / MARK).exists() or (path.name == "case.yaml" and all((folder / name).is_file() for name in _BESIDE))


def refuse_what_runs(case, path: pathlib.Path) -> None:
    """Raise Trouble where the case of a bundle would run code, or reads what lies outside of it; not where it is trusted."""
    if os.environ.get(TRUST) == "1" or not from_elsewhere(path):
        return
    home = os.path.realpath(path.parent)
    for role, side in case.sides().items():
        if side.live is not None:
            code = side.live.entry + (f" by {side.live.python}" if side.live.python else "")
            raise Trouble(f"{path.name}: {role}.live would run code that came with a bundle ({code}). Read it first; --trust runs it. "
                          f"Without it, leave {role}.live out and name a trace.")  # fmt: skip
        named = {"trace": side.trace, "image": side.image, **{f"injected[{i}]": name for i, name in enumerate(side.injected)}}
        for key, name in named.items():
            if name and os.path.commonpath([home, os.path.realpath(case.resolve(name))]) != home:
                raise Trouble(f"{path.name}: {role}.{key} {name!r} lies outside the bundle. --trust reads it.")
