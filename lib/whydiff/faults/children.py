"""Each trial in a process of its own, forked from one that has imported everything and built the pipelines.

A fork costs milliseconds, a trial cannot leave anything behind (patched classes, used generators, memory), and one that
takes too long can be ended. The limit is of processor time, so that a busy machine ends nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any


class Child:
    """One running call of `work()`, whose result must be JSON."""

    def __init__(self, task: Any, work: Callable[[], dict], seconds: float):
        self.task, self.started = task, time.monotonic()
        self.pipe, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _live(work, write, seconds)  # never returns
        os.close(write)
        self.read = b""

    def more(self) -> bool:
        """Take what has come; False at the end."""
        piece = os.read(self.pipe, 1 << 20)
        self.read += piece
        return bool(piece)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def result(self) -> dict:
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        if self.read:
            with contextlib.suppress(ValueError):
                return json.loads(self.read)
        signal_ = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if signal_ in (signal.SIGXCPU, signal.SIGKILL):
            return {"error": "took too long (or too much memory), and was ended"}
        return {"error": f"the process ended with signal {signal_}" if signal_ else "no result"}


def _live(work: Callable[[], dict], pipe: int, seconds: float) -> None:
    """What the child does: stdout and stderr are nobody's, the result goes into the pipe."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        most = math.ceil(seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))
        if not os.environ.get("WHYDIFF_DEBUG"):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        try:
            result = work()
        except BaseException as error:
            if os.environ.get("WHYDIFF_DEBUG"):
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            words = " ".join(str(error).split())[:400]
            where = f"{os.path.basename(last.filename)}:{last.lineno}"
            result = {"error": f"{type(error).__name__}: {words} ({where})", "kind": type(error).__name__}
        data = json.dumps(result).encode()
        while data:
            data = data[os.write(pipe, data) :]
        code = 0
    finally:
        os._exit(code)


def in_children(next_task: Callable[[], tuple[Any, Callable[[], dict]] | None], jobs: int, seconds: float,
                waits: float = 8.0) -> Iterator[tuple[Any, dict]]:  # fmt: skip
    """Yield (task, result) as they end, `jobs` at a time. `next_task()` gives a task and its work, or None for now.

    `seconds` of processor time and `waits` times as much by the clock are a child's limits. What the consumer does with
    one result may make new tasks. Ends when none runs and none is given.
    """
    running: dict[int, Child] = {}
    try:
        while True:
            while len(running) < jobs and (given := next_task()) is not None:
                child = Child(*given, seconds)
                running[child.pipe] = child
            if not running:
                return
            ready, _, _ = select.select(list(running), [], [], 0.5)
            now = time.monotonic()
            for child in list(running.values()):
                if now - child.started > waits * seconds and child.pipe not in ready:
                    child.stop()
                    del running[child.pipe]
                    child.read = b""
                    child.result()
                    yield child.task, {"error": "took too long, and was ended"}
            for pipe in ready:
                if pipe in running and not running[pipe].more():
                    child = running.pop(pipe)
                    yield child.task, child.result()
    finally:
        for child in running.values():
            child.stop()
            with contextlib.suppress(ChildProcessError, OSError):
                os.waitpid(child.pid, 0)
                os.close(child.pipe)
