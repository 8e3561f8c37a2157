"""How a side of a case comes to life: its file imported by path, its function called with `build`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import pathlib
import sys
from typing import TYPE_CHECKING

from whydiff.errors import Trouble, did_you_mean, where_raised
from whydiff.evidence.sides.runnable import SIDE_MODULE, RunnableSide

if TYPE_CHECKING:
    from whydiff.evidence.case import Case, Live


def load_side(case: Case, role: str, kept=None) -> RunnableSide:
    """The live side of a case: its entry loaded, its function called with `build`, here or in the interpreter that it names.

    `kept`: what an earlier side of the same entry, build and interpreter left (`RunnableSide.left`); nothing is loaded then.
    """
    side = getattr(case, role)
    live: Live = side.live
    told = {"role": role, "name": side.name, "build": live.build, "entry": live.entry}
    if live.object is not None:
        return RunnableSide(live.object, live.call, **told)
    from whydiff.evidence.case import entry_file  # the interpreter of another side, which builds alone, may lack pydantic

    path, function = entry_file(live.entry, role, case.resolve)
    if live.python is None:
        make = functools.partial(build, path, function, live.build, role)
        return RunnableSide(make() if kept is None else kept, live.call, make=make, **told)
    from whydiff.evidence.remote.side import RemoteSide

    return RemoteSide(case.interpreter(live.python), path, function, live.call, child=kept, **told)


def build(path: pathlib.Path, function: str, arguments: dict, role: str):
    """What a function of a file returns, called with `arguments`. Raises Trouble that names the file, the line, and what is near."""
    module = _import_file(path, role)
    maker = getattr(module, function, None)
    if not callable(maker):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise Trouble(f"{role}: {path.name} has no function {function!r}.{did_you_mean(function, names)}")
    try:
        inspect.signature(maker).bind(**arguments)
    except TypeError as error:
        known = list(inspect.signature(maker).parameters)
        key = next((k for k in arguments if k not in known), "")
        raise Trouble(f"{role}: build does not fit {path.name}:{function}: {error}.{did_you_mean(key, known)}") from None
    try:
        with _on_path(path.parent):
            return maker(**arguments)
    except (Exception, SystemExit) as error:
        raise Trouble(f"{role}: {path.name}:{function} raised {type(error).__name__}: {error} {where_raised(error)}") from error


def _import_file(path: pathlib.Path, role: str):
    """Import a file by its path, its folder on sys.path while it loads. The same file is imported once."""
    name = SIDE_MODULE + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    stamp = path.stat().st_mtime_ns
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__whydiff_stamp__", None) == stamp:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _on_path(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise Trouble(f"{role}: {path} cannot be loaded: {type(error).__name__}: {error} {where_raised(error)}") from error
    module.__whydiff_stamp__ = stamp
    return module


@contextlib.contextmanager
def _on_path(folder: pathlib.Path):
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
