"""Exhibits that one explores with mouse or keyboard. Each is a widget while a kernel listens, a page of its own in a trusted notebook,
a plain picture where no script may run, and a line of text where nothing else is shown.
"""

import importlib

# Looked up on first use: practice runs in another process, and its notebook needs no torch.
_PUBLIC = {
    "compare_pictures": "whydiff.widgets.pictures",
    "explorer": "whydiff.widgets.explore",
    "steps_player": "whydiff.widgets.steps",
    "Practice": "whydiff.widgets.practice",
}

__all__ = [*_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'whydiff.widgets' has no attribute {name!r}")
