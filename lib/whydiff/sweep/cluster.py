"""The workers of a sweep: processes of this machine, or those of a dask scheduler that is running already."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator

from whydiff.errors import Trouble

EACH_NEEDS = 2 << 30  # bytes of memory that a worker is counted with: torch, diffusers and two small pipelines
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def workers(scheduler: str | None, wanted: int | None, cases: int, resources: dict[str, float]) -> Iterator[tuple]:
    """(a dask client, what each worker of it must have). Raises Trouble where dask is missing or the scheduler cannot be reached."""
    try:
        import dask

        with dask.config.set(logging=dict.fromkeys(("distributed", "distributed.client", "tornado.application"), _loudness().lower())):
            import distributed  # its loggers are set up as it is imported
    except ImportError:
        raise Trouble("a sweep needs dask.distributed: pip install 'whydiff[sweep]', or pip install distributed.") from None
    with dask.config.set(_settings()):
        if scheduler is not None:
            with _existing(distributed, scheduler) as client:
                yield client, resources
        else:
            with _embedded(distributed, wanted, cases, resources) as client:
                yield client, resources


def _settings() -> dict:
    threads = {name: os.environ.get(name, "1") for name in _THREADS}
    return {"distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": 65536, **threads},
            # Importing torch holds a process for many seconds on a busy machine; that is no reason to give it up.
            "distributed.comm.timeouts.connect": "60s", "distributed.comm.timeouts.tcp": "300s",
            "logging": {"distributed": _loudness().lower()}}  # fmt: skip


def _loudness() -> str:
    """That workers die, and which messages are lost on the way, is what a sweep reports itself."""
    return "INFO" if os.environ.get("WHYDIFF_DEBUG") else "CRITICAL"


@contextlib.contextmanager
def _embedded(distributed, wanted: int | None, cases: int, resources: dict[str, float]) -> Iterator:
    """A LocalCluster of processes with one thread each, which listen on the loopback alone; one for each GPU where there are any."""
    from whydiff.sweep.worker_setup import Settled

    cards = gpus()
    lacking = [name for name in resources if name != "GPU" or not cards]
    if lacking:
        raise Trouble(f"resources: {', '.join(lacking)} is not to be had on this machine. Run the sweep on workers that have it, "
                      "with --scheduler.")  # fmt: skip
    folder = tempfile.mkdtemp(prefix="whydiff-sweep-")
    try:
        with distributed.LocalCluster(
            n_workers=wanted or sensible(cases, len(cards)), threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit=0, resources={"GPU": 1} if cards else None, local_directory=folder,
            silence_logs=getattr(logging, _loudness()), plugins={Settled(cards)},
        ) as cluster, distributed.Client(cluster) as client:  # fmt: skip
            try:
                yield client
            except BaseException:
                _end_at_once(cluster)
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_at_once(cluster) -> None:
    """Workers that are in the middle of a case would be waited for."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        with contextlib.suppress(Exception):
            os.kill(nanny.pid, signal.SIGKILL)


@contextlib.contextmanager
def _existing(distributed, address: str) -> Iterator:
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        words = " ".join(str(error).split())
        raise Trouble(f"--scheduler {address}: no dask scheduler answers there ({words or type(error).__name__}). "
                      "Start one with `dask scheduler`, and give the address that it prints.") from None  # fmt: skip
    with client:
        yield client


def sensible(cases: int, cards: int) -> int:
    """How many workers this machine can hold: one for each GPU, or else as many as cores and memory allow."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = cards or min(CPU_COUNT, int(0.8 * MEMORY_LIMIT) // EACH_NEEDS)
    return max(1, min(most, cases))


def gpus() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES spells them; torch is not loaded to find out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [card.strip() for card in visible.split(",") if card.strip() not in ("", "-1", "NoDevFiles")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]
