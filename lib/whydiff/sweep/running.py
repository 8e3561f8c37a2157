"""Cases go to workers one at a time, and again to another one where a worker dies. A case that kills two workers is set aside."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable

from whydiff.errors import Trouble
from whydiff.sweep import keys, task
from whydiff.sweep.grid import Planned
from whydiff.sweep.order import choose, sharing
from whydiff.sweep.task import Answer

KILLS = 2  # workers that a case may take along before it is set aside
LOOK = 0.5  # seconds between two looks at which workers are there
GATHER = 60  # seconds that a finished answer may take to come


class Crew:
    """The workers behind a dask client. Each has one case at a time, whatever number of threads it has: whydiff seeds global
    generators and watches torch's own functions."""

    work = staticmethod(task.run)  # what a worker does with a case

    def __init__(self, client, resources: dict[str, float], *, notebooks: bool = False, foreign: bool = False):
        self.client, self.resources, self.notebooks, self.foreign = client, resources, notebooks, foreign
        self.running: dict[str, tuple[Planned, object]] = {}  # by address of the worker
        self.last: dict[str, str] = {}  # and the name of the case that it did last
        self._ended: queue.SimpleQueue = queue.SimpleQueue()
        self._here: list[str] = []
        self._looked = 0.0
        self._fit: dict[str, bool] = {}

    def idle(self) -> list[str]:
        if time.monotonic() - self._looked > LOOK:
            self._look()
        return [address for address in self._here if address not in self.running]

    def start(self, planned: Planned, address: str) -> None:
        future = self.client.submit(self.work, planned, self.notebooks, workers=[address], allow_other_workers=False, pure=False, retries=0,
                                    resources=self.resources or None, key=f"whydiff-{planned.name}-{time.monotonic_ns()}")  # fmt: skip
        self.running[address] = planned, future
        self.last[address] = planned.name
        future.add_done_callback(lambda done: self._ended.put((address, done)))

    def ended(self) -> list[tuple[Planned, str, Answer | None]]:
        """What ended by now, after at most LOOK seconds: (case, worker, its answer). None: the worker died."""
        found = []
        with contextlib.suppress(queue.Empty):
            address, future = self._ended.get(timeout=LOOK)
            while True:
                if address in self.running and self.running[address][1] is future:
                    planned, _ = self.running.pop(address)
                    found.append((planned, address, self._answer(planned, future)))
                address, future = self._ended.get_nowait()
        self._look()
        for address in [address for address in self.running if address not in self._here]:
            planned, future = self.running.pop(address)
            future.cancel()
            found.append((planned, address, None))
        return found

    def sent_away(self, address: str) -> bool:
        """Was a worker that is gone asked to go (by an adaptive cluster, say)? Then no case is to blame."""
        with contextlib.suppress(Exception):
            return any(message.get("action") == "remove-worker" and message.get("expected") for _, message in self.client.get_events(address))
        return False

    def _answer(self, planned: Planned, future) -> Answer | None:
        from distributed.scheduler import KilledWorker

        try:
            return future.result(timeout=GATHER)
        except (KilledWorker, TimeoutError):
            return None
        except Exception as error:
            if type(error).__name__ in ("CancelledError", "FutureCancelledError"):
                return None
            return Answer(planned.name, trouble=f"the worker could not run it: {type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            future.release()

    def _look(self) -> None:
        try:  # `scheduler_info()` of the client is at times the answer to a question about no workers
            found = self.client.sync(self.client.scheduler.identity, n_workers=-1)["workers"]
        except OSError as error:
            raise Trouble(f"the scheduler does not answer any more ({' '.join(str(error).split())}). What is done is kept; the same command "
                          "goes on from there.") from None  # fmt: skip
        self._looked = time.monotonic()
        self._here = [address for address, told in found.items() if told.get("status", "running") == "running" and self._has(told)
                      and self._same_code(address)]  # fmt: skip

    def _has(self, told: dict) -> bool:
        return all(told.get("resources", {}).get(name, 0) >= amount for name, amount in self.resources.items())

    def _same_code(self, address: str) -> bool:
        """A worker of somebody's cluster must have this checkout and these versions: else its verdicts would mean something else."""
        if not self.foreign:
            return True
        if address not in self._fit:
            try:
                theirs = self.client.run(keys.of_this_machine, workers=[address])[address]
            except Exception as error:
                raise Trouble(f"the worker {address} cannot import whydiff ({type(error).__name__}: {' '.join(str(error).split())}). "
                              "Workers need the same checkout and environment as the sweep.") from None  # fmt: skip
            differ = [f"{b} there, {a} here" for a, b in zip(keys.of_this_machine(), theirs) if a != b]
            if differ:
                raise Trouble(f"the worker {address} has other versions: {'; '.join(differ)}. "
                              "Workers need the same checkout and environment as the sweep.")  # fmt: skip
            self._fit[address] = True
        return True


def run_cases(waiting: Iterable[Planned], crew, done: Callable[[Planned, Answer], Iterable[Planned]],
              said: Callable[[str], None] = lambda text: None) -> None:  # fmt: skip
    """Run cases until none waits. `done` receives each answer as it comes, and returns further cases that follow from it."""
    waiting = list(waiting)
    shares = {planned.name: sharing(planned) for planned in waiting}
    deaths: dict[str, int] = {}
    while waiting or crew.running:
        for address in crew.idle():
            if not waiting:
                break
            planned = choose(waiting, shares, crew.last.get(address), [p.name for p, _ in crew.running.values()])
            waiting.remove(planned)
            crew.start(planned, address)
        if waiting and not crew.running:
            said("waiting for a worker")
        for planned, address, answer in crew.ended():
            if answer is None and not crew.sent_away(address):
                deaths[planned.name] = deaths.get(planned.name, 0) + 1
            if answer is None and deaths.get(planned.name, 0) >= KILLS:
                answer = Answer(planned.name, trouble=f"set aside: {KILLS} workers died while they ran it (out of memory, or a crash in "
                                                      "native code?)", figures={"set_aside": True})  # fmt: skip
            if answer is None:
                said(f"a worker died while it ran {planned.name}; it goes to another one")
                waiting.insert(0, planned)
                continue
            answer.figures |= {"attempts": deaths.get(planned.name, 0) + 1, "worker": address}
            more = list(done(planned, answer))
            shares |= {planned.name: sharing(planned) for planned in more}
            waiting += more
