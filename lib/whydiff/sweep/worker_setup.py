"""What a worker of the embedded cluster does first: it leaves Ctrl-C to the sweep, and keeps to one GPU."""

from __future__ import annotations

import os
import signal

from distributed import WorkerPlugin


class Settled(WorkerPlugin):
    name = "whydiff-settled"

    def __init__(self, cards: list[str]):
        self.cards = cards

    def setup(self, worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to all processes of a terminal; the sweep ends its workers
        if self.cards:  # before torch is loaded; the workers of a LocalCluster are named 0, 1, 2, ...
            os.environ["CUDA_VISIBLE_DEVICES"] = self.cards[int(worker.name) % len(self.cards)]
