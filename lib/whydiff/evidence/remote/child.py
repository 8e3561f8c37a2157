"""Starting another interpreter with nothing of this one's but whydiff, and ending it."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref

import whydiff
from whydiff.errors import Trouble

LAST_PIECES, LAST_LINES = 64, 3  # of what the child said: kept, and told when it ends
SECONDS_TO_END = 5.0

# Any Python 3 can read this. whydiff is imported from its own folder by path, so that nothing beside it becomes importable.
START = """
import sys
if sys.version_info < (3, 9):
    sys.exit("Python %d.%d is too old; whydiff needs 3.9 there" % sys.version_info[:2])
sys.path[:] = [entry for entry in sys.path if entry]
try:
    import torch
except Exception as error:
    sys.exit("torch cannot be imported there (%s: %s)" % (type(error).__name__, error))
import importlib.util
spec = importlib.util.spec_from_file_location("whydiff", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["whydiff"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["whydiff"])
from whydiff.evidence.remote.host import main
main(int(sys.argv[2]), sys.argv[3])
"""


class Child:
    """One running interpreter. What it prints goes to this process's standard error. It ends with this object, or this process."""

    def __init__(self, python: pathlib.Path, role: str):
        self.python, self.role = python, role
        self.connection, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="whydiff-")
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")}
        command = [str(python), "-c", START, str(pathlib.Path(whydiff.__file__).parent), str(theirs.fileno()), folder]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                            pass_fds=(theirs.fileno(),), env=variables)  # fmt: skip
        except OSError as error:
            shutil.rmtree(folder)
            self.connection.close()
            raise Trouble(f"{role}: live.python {python} cannot be started ({error.strerror or error}). "
                          "Name the interpreter of the environment, such as venv/bin/python.") from None  # fmt: skip
        finally:
            theirs.close()
        self.said: collections.deque[str] = collections.deque(maxlen=LAST_PIECES)
        self._reader = threading.Thread(target=_passed_on, args=(self.process.stdout, self.said), daemon=True)
        self._reader.start()
        self.close = weakref.finalize(self, _end, self.process, self.connection, self._reader, folder)

    def ended(self) -> Trouble:
        """Why the child is gone: how it ended, and the last that it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS_TO_END)
        self._reader.join(SECONDS_TO_END)
        code = self.process.poll()
        self.close()
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        lines = [line.strip() for line in re.split(r"[\r\n]+", "".join(self.said)) if line.strip()]
        words = " / ".join(lines[-LAST_LINES:])
        return Trouble(f"{self.role}: the interpreter {self.python} {how}" + (f": {words}" if words else ""))


def _passed_on(stream, said) -> None:
    while piece := stream.read1(1 << 16):  # progress bars do not end their lines
        said.append(piece.decode(errors="replace"))
        with contextlib.suppress(ValueError, OSError):
            sys.stderr.write(said[-1])
            sys.stderr.flush()


def _end(process: subprocess.Popen, connection: socket.socket, reader: threading.Thread, folder: str) -> None:
    connection.close()
    process.stdin.close()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    reader.join(SECONDS_TO_END)
    process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)
