"""What the warm process imports, and whether it may be forked afterwards.

A fork has one thread, whatever its parent had: a pool of OpenMP threads, a CUDA context or a lock that another thread holds
is broken in it. So nothing is computed here, and a fork is tried before any kernel depends on one.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable

# What the notebooks import; the models' own modules are named by the diagnosis once it has loaded them.
MODULES = ("matplotlib.pyplot", "ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "IPython.core.completer", "torch",
           "whydiff.report.progress", "whydiff.report.views", "whydiff.report.browser", "whydiff.engine.store",
           "diffusers.pipelines.pipeline_utils", "transformers.modeling_utils")  # fmt: skip
SELF_TEST_SECONDS = 30.0


def preload() -> None:
    """Import what every notebook needs. What is not installed is left to the notebook that asks for it."""
    for name in MODULES:
        _imported(name)
    from whydiff.audits.table import AUDITS

    for audit in AUDITS:
        _imported(f"whydiff.audits.{audit.name}")


def also(names: Iterable[str]) -> None:
    """Import further modules of packages that are loaded already: never what a user wrote, which may compute on import."""
    packages = {name for name in sys.modules if "." not in name}
    for name in names:
        if name.partition(".")[0] in packages:
            _imported(name)


def _imported(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # the notebook that imports it says what is wrong with it
        print(f"{name} was not preloaded: {error}", file=sys.stderr, flush=True)


def unfit() -> str:
    """Why this process may not be forked into kernels; empty where it may."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "an import initialised CUDA"
    if threading.active_count() > 1:
        return f"an import started the thread {threading.enumerate()[-1].name}"
    pid = os.fork()
    if pid == 0:
        try:
            _compute()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return _outcome(pid)


def _compute() -> None:
    """Work for all threads, and for the GPU where there is one: hangs or fails where a fork cannot compute."""
    import torch

    torch.zeros(2000, 2000).add_(1).sum()
    torch.ones(600, 600) @ torch.ones(600, 600)
    if torch.cuda.is_available():
        torch.ones(8, device="cuda").sum().item()


def _outcome(pid: int) -> str:
    end = time.monotonic() + SELF_TEST_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "" if status == 0 else f"a fork could not compute (status {os.waitstatus_to_exitcode(status)})"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "a fork hung, as an import had started threads that compute"
