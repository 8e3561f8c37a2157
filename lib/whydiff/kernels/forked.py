"""What a fork of the warm process does to be like a kernel that was started afresh, and then being that kernel."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import random
import signal
import sys
import traceback

CUDA_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"  # whether there is a GPU is asked without initialising CUDA
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def become(request: dict, descriptors: list[int]) -> None:
    """Never returns. `request` is what the client asked for, `descriptors` its stdin, stdout and stderr."""
    status = 1
    try:
        _leave_server(descriptors)
        os.chdir(request["cwd"])
        os.environ.pop(CUDA_CHECK, None)
        os.environ.update(request["env"])
        _seed_by_the_machine()
        status = _kernel(request["argv"])
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)  # torch takes long to be torn down, and nothing is left to be done


def _leave_server(descriptors: list[int]) -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was asked for
        os._exit(1)
    os.setsid()
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)


def _seed_by_the_machine() -> None:
    """What a fresh process finds when it first draws; else all forks would draw the same."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


def _kernel(argv: list[str]) -> int:
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher", *argv]
    try:  # the parent's id was to be read from the environment when ipykernel was imported
        IPKernelApp.launch_instance(argv=[*argv, f"--IPKernelApp.parent_handle={os.getppid()}"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
