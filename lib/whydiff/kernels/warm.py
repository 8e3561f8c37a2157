"""The command's side of forked kernels: starts the warm process while the diagnosis runs, and ends it with all its kernels."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from whydiff.errors import Trouble, did_you_mean

VARIABLE = "WHYDIFF_KERNELS"
WAYS = ("auto", "fork", "fresh")
FRESH = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]


def way_of(asked: str | None = None) -> str:
    """auto (forks where they can be had), fork or fresh: as asked, else as the variable says. Raises Trouble for other words."""
    name, way = ("--kernels", asked) if asked else (VARIABLE, os.environ.get(VARIABLE) or "auto")
    if way not in WAYS:
        raise Trouble(f"{name} {way}: no such way to start kernels.{did_you_mean(way, WAYS)} Known: {', '.join(WAYS)}.")
    if way == "fork" and sys.platform != "linux":
        raise Trouble(f"{name} fork: kernels are forked on Linux alone. Use auto or fresh.")
    return way


class Warm:
    """The warm process, which imports from the moment it is made. `socket` is where its kernels are asked for."""

    def __init__(self, folder):
        self.socket = str(pathlib.Path(folder) / "socket")
        chatter = None if os.environ.get("WHYDIFF_DEBUG") else subprocess.DEVNULL
        # A session of its own: Ctrl-C is for the command, whose end closes the pipe on which this process waits.
        self.process = subprocess.Popen([sys.executable, "-Xfrozen_modules=off", "-m", "whydiff.kernels.server", self.socket],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=chatter, start_new_session=True)  # fmt: skip

    def unfit(self) -> str:
        """Waits until the imports are done, those of this process, too; why no kernels can be forked, or nothing."""
        names = [name for name, module in list(sys.modules.items()) if getattr(module, "__spec__", None) is not None]
        try:
            self.process.stdin.write(json.dumps(names).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = b""
        return line.decode().strip() if line else "the warm process ended"

    def command(self) -> list[str]:
        client = pathlib.Path(__file__).with_name("client.py")
        return [sys.executable, "-I", "-S", str(client), self.socket, *FRESH[4:]]

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def warming(asked: str | None = None) -> Iterator[Warm | None]:
    """A process that gets warm while the context lasts; None where kernels are started afresh."""
    way = way_of(asked)
    if way == "fresh" or sys.platform != "linux":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="whydiff-warm-") as folder:
        warm = Warm(folder)
        try:
            yield warm
        finally:
            warm.stop()


def kernel_command(warm: Warm | None, asked: str | None = None) -> tuple[list[str], str]:
    """How to start a kernel, as kernel.json says it; and why it is not forked, where that was hoped for.

    Raises Trouble where forks were asked for and cannot be had.
    """
    if warm is None:
        return FRESH, ""
    reason = warm.unfit()
    if reason and way_of(asked) == "fork":
        raise Trouble(f"kernels cannot be forked: {reason}. Use --kernels auto or fresh.")
    return (FRESH, reason) if reason else (warm.command(), "")
