"""Progress to stderr: one line that changes on a terminal, plain lines otherwise."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yields `said(text)`. While the context lasts, whatever a side prints goes to stderr: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        if quiet:
            yield lambda text: None
        elif sys.stderr.isatty():
            yield from _spinner()
        else:
            start = time.monotonic()
            yield lambda text: print(f"[{time.monotonic() - start:5.1f} s] {text}", file=sys.stderr, flush=True)


def _spinner() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(text.replace("[", r"\["))
