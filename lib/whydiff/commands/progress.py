"""Progress to stderr: one line that changes on a terminal, plain lines otherwise."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yields `said(text)`. While the context lasts, whatever a side prints goes to stderr: stdout is for results."""
    with _stdout_of_the_process_to_stderr(), contextlib.redirect_stdout(sys.stderr):
        if quiet:
            yield lambda text: None
        elif sys.stderr.isatty():
            yield from _spinner()
        else:
            start = time.monotonic()
            yield lambda text: print(f"[{time.monotonic() - start:5.1f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stdout_of_the_process_to_stderr() -> Iterator[None]:
    """What C libraries and subprocesses of a side print, too. Does nothing where stdout and stderr are no files."""
    try:
        out, error = sys.stdout.fileno(), sys.stderr.fileno()
        sys.stdout.flush()
        kept = os.dup(out)
    except (AttributeError, OSError, ValueError):
        yield
        return
    os.dup2(error, out)
    try:
        yield
    finally:
        os.dup2(kept, out)
        os.close(kept)


def _spinner() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(text.replace("[", r"\["))
