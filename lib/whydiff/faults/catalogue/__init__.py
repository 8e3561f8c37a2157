"""One file of injectors per stage; `load` imports them all, and each enters its faults into `fault.FAULTS`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys


@functools.cache
def load() -> tuple[str, ...]:
    """Import every file here. Returns what could not be imported, after saying so: the others can still be run."""
    broken = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        try:
            importlib.import_module(f"{__name__}.{module.name}")
        except Exception as error:
            broken.append(module.name)
            print(f"whydiff: faults/catalogue/{module.name}.py: {type(error).__name__}: {error}", file=sys.stderr)
    return tuple(broken)
