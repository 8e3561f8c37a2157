"""Writing behind the run: events wait in a queue of bounded size while a thread looks at their tensors and writes them."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

from whydiff.errors import Trouble
from whydiff.evidence.traces.trace_writer import TraceWriter

WITHIN = 1.0  # seconds after which what was shown is on disk, for runs that somebody may kill


def megabytes(said) -> int:
    """A number of MB as bytes. Raises Trouble for anything else."""
    try:
        if float(said) > 0:
            return int(float(said) * 1e6)
    except (TypeError, ValueError):
        pass
    raise Trouble(f"queue {said!r} is no number of MB above 0.")


class Behind:
    """`limit`: bytes of tensors that may wait. Where they are reached the run waits, or, unless `wait`, the tensor is left out
    and counted. `failed` is called, in the thread, with what ended the writing: a full disk ends the recording, not the run."""

    def __init__(self, writer: TraceWriter, limit: int, wait: bool, failed: Callable[[Exception], None]):
        self.writer, self.limit, self.wait, self.failed = writer, limit, wait, failed
        self.queue: collections.deque = collections.deque()
        self.bytes = 0
        self.left_out = 0
        self.ending = self.broken = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, name="whydiff recorder", daemon=True)
        self.thread.start()

    def put(self, event) -> None:
        with self.changed:
            # A tensor that is larger than the limit waits alone.
            while self.wait and self.queue and self.bytes + event.held.size > self.limit and not self.broken:
                self.changed.wait()
            if self.broken:
                return
            if self.queue and self.bytes + event.held.size > self.limit:
                self.left_out += 1
                return
            self.queue.append(event)
            self.bytes += event.held.size
            self.changed.notify_all()

    def end(self) -> None:
        """Returns when all is written."""
        with self.changed:
            self.ending = True
            self.changed.notify_all()
        self.thread.join()

    def _work(self) -> None:
        try:
            while (event := self._next()) is not None:
                if event:
                    self.writer.write(event)
                    self._done(event)
                if self.writer.pending and time.monotonic() - self.writer.since >= WITHIN:
                    self.writer.flush()
        except Exception as error:
            with self.changed:
                self.broken = True
                self.queue.clear()
                self.changed.notify_all()
            self.failed(error)

    def _next(self):
        """The oldest event; False where it is time to write what is pending; None at the end."""
        with self.changed:
            while not self.queue:
                if self.ending:
                    return None
                left = self.writer.since + WITHIN - time.monotonic() if self.writer.pending else None
                if left is not None and left <= 0:
                    return False
                self.changed.wait(left)
            return self.queue[0]

    def _done(self, event) -> None:
        with self.changed:
            self.queue.popleft()
            self.bytes -= event.held.size
            self.changed.notify_all()
