"""Recordings that are killed: `python killed.py COUNT SEED` prints how often every tensor whose line was written read back exactly.

One process imports torch, forks a child for each trial and kills it (SIGKILL, so that nothing of its own can run any more) at a
random moment between its first line and its last.
"""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import torch

import whydiff
from whydiff.evidence.recording.standalone import recording
from whydiff.evidence.traces.reading import read_trace

SHAPES = [(1, 4, 16, 24), (3,), (), (2, 77, 64), (1, 48, 4000), (0, 4)]
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.float16]


def shown(i: int) -> torch.Tensor:
    """The tensor at step `i`: anybody can make it again."""
    made = torch.randn(SHAPES[i % len(SHAPES)], generator=torch.Generator().manual_seed(i)) * 100
    return made.to(DTYPES[i % len(DTYPES)])


def program(folder) -> None:
    """Records until it is killed, faster and slower by turns as a sampler would."""
    with recording(folder):
        for i in range(100_000):
            whydiff.tap("latents", shown(i), step=i)
            if i % 50 == 0:
                time.sleep(0.005)


def trial(folder: pathlib.Path, draw: random.Random) -> tuple[int, list[str]]:
    """(how many tensors read back, what was wrong with them)."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        program(folder)
        os._exit(0)
    lines = folder / "trace.jsonl"
    while not lines.exists():
        time.sleep(0.001)
    time.sleep(draw.expovariate(1 / 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not lines.read_text().count("\n"):
        return 0, []  # killed before its first line was whole: nothing was promised
    trace = read_trace(folder)
    wrong = [str(place) for place in trace if not same(trace[place], shown(place.step))]
    return len(trace), wrong + (["called complete"] if trace.complete else [])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def trials(count: int, seed: int) -> tuple[int, list[str]]:
    """`count` recordings killed at moments drawn from `seed`."""
    draw, read, wrong = random.Random(seed), 0, []
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    for number in range(count):
        home = pathlib.Path(tempfile.mkdtemp())
        try:
            some, bad = trial(home / "t", draw)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        read += some
        wrong += [f"trial {number}: {what}" for what in bad]
    return read, wrong


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    read, wrong = trials(count, seed)
    print(f"{count} recordings killed (seed {seed}): {read} tensors read back, {len(wrong)} wrong", *wrong[:20], sep="\n")
    sys.exit(bool(wrong))
