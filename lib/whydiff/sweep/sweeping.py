"""A sweep from its file to its page: what was done before is taken over, the rest is run, and everything is written as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator

from whydiff.sweep import grid, keys, results
from whydiff.sweep.bisection import Bisection, bisections
from whydiff.sweep.grid import Plan, Planned
from whydiff.sweep.junit import write_junit
from whydiff.sweep.page import write_page
from whydiff.sweep.progress import watching
from whydiff.sweep.results import Result
from whydiff.sweep.task import Answer

REFRESH = 10.0  # seconds between two writings of table and page while cases run


@dataclasses.dataclass
class Sweep:
    """What is asked for, and what is known so far."""

    plan: Plan
    folder: pathlib.Path
    searches: list[Bisection]
    command: str
    notebooks: bool = False
    junit: str | None = None
    found: dict[str, Result] = dataclasses.field(default_factory=dict)
    written: float = 0.0

    @property
    def results(self) -> list[Result]:
        """In the order of the sweep file."""
        return [self.found[planned.name] for planned in self.plan.cases if planned.name in self.found]

    @property
    def status(self) -> int:
        """As diff(1), the expectations counted: 0 all agree, 1 some do not, 2 some came to no answer. Of a bisection: 0 found."""
        worst = max((result.status for result in self.results), default=0)
        if not self.searches:
            return worst
        return 2 if any(r.trouble for r in self.results) else int(not all(search.flips for search in self.searches))

    def first(self) -> list[Planned]:
        """What is run without knowing anything: all cases, or the ends of what is searched."""
        return [planned for search in self.searches for planned in search.ends()] if self.searches else list(self.plan.cases)

    def more(self, result: Result) -> list[Planned]:
        """What follows from a result."""
        search = next((s for s in self.searches if any(planned.name == result.name for planned in s.cases)), None)
        return search.next(result) if search is not None else []

    def write(self) -> None:
        """The table and the page of what is known."""
        results.write_table(self.folder, self.results)
        write_page(self.folder, self.plan.title, self.results, command=self.command, bisected=[search.word() for search in self.searches],
                   planned=0 if self.searches else len(self.plan.cases))  # fmt: skip
        if self.junit:
            write_junit(self.junit, self.plan.title, self.results)
        self.written = time.monotonic()


@contextlib.contextmanager
def prepared(path, out, *, bisect: str | None, command: str, notebooks: bool = False, junit: str | None = None) -> Iterator[Sweep]:
    """A sweep whose folder is ours. Whatever happens to it, its table and page are written at the end."""
    plan = grid.plan(path)
    searches = bisections(plan, bisect, str(path)) if bisect else []
    with results.folder_of_a_sweep(out) as folder:
        sweep = Sweep(plan, folder, searches, command, notebooks, junit)
        try:
            yield sweep
        finally:
            sweep.write()


def run(sweep: Sweep, *, scheduler: str | None = None, workers: int | None = None, fresh: bool = False) -> None:
    """Run what was not done before. Raises Trouble where there can be no workers, KeyboardInterrupt where that is asked for."""
    with watching(sum(len(search.cases) for search in sweep.searches) or len(sweep.plan.cases)) as watch:
        waiting = sweep.first() if fresh else _rest(sweep, watch)
        if not waiting:
            return
        from whydiff.sweep.cluster import workers as staffed
        from whydiff.sweep.running import Crew, run_cases

        def done(planned: Planned, answer: Answer) -> list[Planned]:
            result = results.store(sweep.folder, planned, keys.key(planned, notebooks=sweep.notebooks), answer)
            sweep.found[planned.name] = result
            watch.done(result)
            if time.monotonic() - sweep.written > REFRESH:
                sweep.write()
            return sweep.more(result) if fresh else _unknown(sweep, sweep.more(result), watch)

        with staffed(scheduler, workers, len(waiting), sweep.plan.resources) as (client, resources):
            crew = Crew(client, resources, notebooks=sweep.notebooks, foreign=scheduler is not None)
            run_cases(waiting, crew, done, watch.said)


def _rest(sweep: Sweep, watch) -> list[Planned]:
    return _unknown(sweep, sweep.first(), watch)


def _unknown(sweep: Sweep, asked: list[Planned], watch) -> list[Planned]:
    """Those of the cases asked for, and of what follows from them, that no earlier sweep has done."""
    waiting, asked = [], list(asked)
    while asked:
        planned = asked.pop(0)
        result = results.stored(sweep.folder, planned, keys.key(planned, notebooks=sweep.notebooks))
        if result is None:
            waiting.append(planned)
            continue
        sweep.found[planned.name] = result
        watch.done(result)
        asked += sweep.more(result)
    return waiting
