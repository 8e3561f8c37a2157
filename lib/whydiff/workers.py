"""Processes that run notebooks one after another, each with its own papermill: `python -m whydiff.workers`.

A task is a line of JSON on stdin, the answer a line of JSON on stdout. What papermill, its event loop and kernels say on
stderr stays out of the user's terminal, and an interrupted command ends its workers and with them their kernels.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator


class Worker:
    """One process. `run` gives it a task and waits for the answer; after a crash the next task gets a new process."""

    def __init__(self):
        self.process: subprocess.Popen | None = None
        self.lock = threading.Lock()  # a command that is interrupted stops workers whose threads still wait for an answer

    def start(self) -> None:
        chatter = None if os.environ.get("WHYDIFF_DEBUG") else subprocess.DEVNULL
        # A session of its own: Ctrl-C is for the command, which then ends its workers.
        self.process = subprocess.Popen([sys.executable, "-m", "whydiff.workers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=chatter, text=True, start_new_session=True)  # fmt: skip

    def run(self, task: list) -> str | None:
        """The answer to one task (the arguments of `run_one`)."""
        if self.process is None:
            self.start()
        process, answer = self.process, ""
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.stop()
        return f"{pathlib.Path(task[0]).name}: the process that ran it was killed (out of memory?)"

    def stop(self) -> None:
        """End the process: it ends its kernel first."""
        with self.lock:
            process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


@contextlib.contextmanager
def started(number: int) -> Iterator[list[Worker]]:
    """Workers that import what they need while something else goes on; ended with the context, and their kernels with them."""
    workers = [Worker() for _ in range(number)]
    try:
        for worker in workers:
            worker.start()
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def run_tasks(tasks: list[list], workers: list[Worker], began: Callable[[int], None] = lambda i: None) -> list[str | None]:
    """The answers to tasks (arguments of `run_one`), one on each worker at a time. `began(i)` is called in this thread."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    events: queue.SimpleQueue = queue.SimpleQueue()
    for i in range(len(tasks)):
        waiting.put(i)

    def serve(worker: Worker) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                i = waiting.get_nowait()
                events.put(("began", i, None))
                events.put(("done", i, worker.run(tasks[i])))

    answers: list[str | None] = [None] * len(tasks)
    try:
        for worker in workers:
            threading.Thread(target=serve, args=(worker,), daemon=True).start()
        done = 0
        while done < len(tasks):
            kind, i, answer = events.get()
            if kind == "began":
                began(i)
            else:
                answers[i], done = answer, done + 1
        return answers
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()


def main() -> None:
    """Serve tasks until stdin ends. Stdout belongs to the answers: whatever else is printed goes to stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the kernel ends with us
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import papermill  # noqa: F401  while the diagnosis runs

    from whydiff.notebooks import run_one

    for line in sys.stdin:
        path, folder, parameters, timeout = json.loads(line)
        try:
            answer = run_one(path, folder, parameters, timeout)
        except Exception as error:
            answer = f"{pathlib.Path(path).name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
