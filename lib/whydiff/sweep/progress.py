"""How far a sweep is: a bar on a terminal with what failed so far above it, plain lines otherwise. All to stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from whydiff.sweep.findings import counts
from whydiff.sweep.results import Result


class Lines:
    """One line for each case, for logs."""

    def __init__(self, total: int):
        self.total, self.results, self.start = total, [], time.monotonic()

    def done(self, result: Result) -> None:
        self.results.append(result)
        self._print(f"{len(self.results)}/{self.total} {result.name}: {result.word()}{' (done before)' if result.before else ''}")

    def said(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:5.1f} s] {text}", file=sys.stderr, flush=True)

    def tally(self) -> str:
        found = counts(self.results)
        missed = sum(result.missed is not None for result in self.results)
        words = f"{found['agree']} agree, {found['differ']} differ, {found['trouble']} without an answer"
        return words + (f", {missed} not as expected" if missed else "")


class Bar(Lines):
    """A bar that stays at the bottom; what fails is printed above it."""

    def __init__(self, total: int, bar):
        super().__init__(total)
        self.bar, self.task = bar, bar.add_task("", total=total, tally="starting workers")

    def done(self, result: Result) -> None:
        self.results.append(result)
        self.bar.update(self.task, completed=len(self.results), tally=self.tally())
        if result.status and not result.before:
            self.bar.console.print(f"{result.name}: {result.word()}", markup=False, highlight=False)

    def said(self, text: str) -> None:
        self.bar.update(self.task, tally=text if not self.results else f"{self.tally()}; {text}")


@contextlib.contextmanager
def watching(total: int) -> Iterator[Lines]:
    """`total`: how many cases there are at most."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
               TextColumn("{task.fields[tally]}", markup=False))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Bar(total, bar)
