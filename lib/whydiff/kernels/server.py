"""The warm process: `python -m whydiff.kernels.server SOCKET`. Imports once, then forks a kernel whenever one is asked for.

On stdin it gets one line, the modules that the diagnosis has imported, as JSON; it answers with one line that says why it cannot
be forked, or is empty. When stdin ends it ends, and with it all of its kernels; they also die when it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys

from whydiff.kernels.forked import CUDA_CHECK, become

# Kernels are told these anew by whoever starts them, and nothing reads them on import.
OWN_TO_EACH = ("JPY_", "JUPYTER_", "PAPERMILL_", "PYDEVD_", "COLUMNS", "LINES")
_PATIENCE = 10.0  # seconds in which a client must have said what it wants


class Server:
    """`before`: the environment that the imports saw; a kernel that is to have another one cannot be a fork."""

    def __init__(self, listener: socket.socket, before: dict[str, str]):
        self.listener, self.before = listener, before
        self.after = dict(os.environ)  # imports set some variables of their own, and would in a fresh kernel
        self.kernels: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        reader, self.waker = os.pipe()
        os.set_blocking(self.waker, False)
        signal.set_wakeup_fd(self.waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(listener, selectors.EVENT_READ, self.asked)
        self.selector.register(reader, selectors.EVENT_READ, self.reaped)
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self.ended)

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # an event before this one may have closed it
                    key.data(key.fileobj)

    def asked(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(_PATIENCE)
        try:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
            request = json.loads(connection.makefile("rb").readline())
        except (OSError, ValueError):
            connection.close()
            return
        other = self.differing(request["env"])
        if other:
            connection.sendall(f"fresh {other} differs from what the warm process began with\n".encode())
            connection.close()
        else:
            self.fork(connection, request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def differing(self, environment: dict[str, str]) -> str:
        """A variable that was read, perhaps, by what is imported already, with another value than this; or nothing."""
        names = {name for name in environment.keys() | self.before.keys() if not name.startswith(OWN_TO_EACH)}
        return next((n for n in sorted(names) if environment.get(n) not in (self.before.get(n), self.after.get(n))), "")

    def fork(self, connection: socket.socket, request: dict, descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (self.listener, connection, *self.kernels.values()):
                held.close()
            self.selector.close()
            become(request, descriptors)
        self.kernels[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ, self.left)
        with contextlib.suppress(OSError):
            connection.sendall(f"forked {pid}\n".encode())

    def left(self, connection: socket.socket) -> None:
        """The client was killed, and so is its kernel."""
        self.selector.unregister(connection)
        for pid in [pid for pid, held in self.kernels.items() if held is connection]:
            os.kill(pid, signal.SIGKILL)

    def reaped(self, reader: int) -> None:
        os.read(reader, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                connection = self.kernels.pop(pid, None)
                if connection is None:
                    continue
                with contextlib.suppress(KeyError):
                    self.selector.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
                connection.close()

    def ended(self, _stdin) -> None:
        for pid in self.kernels:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def main(path: str) -> None:
    del sys.path[0]  # where the command was called: a kernel has the folder of its notebook
    before = dict(os.environ)
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as ipykernel does before matplotlib is imported
    os.environ.setdefault(CUDA_CHECK, "1")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    import gc

    from whydiff.kernels.preload import also, preload, unfit

    preload()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    also(json.loads(line))
    reason = unfit()
    os.write(1, f"{reason}\n".encode())
    if reason:
        return
    gc.collect()
    gc.freeze()
    Server(listener, before).serve()


if __name__ == "__main__":
    main(sys.argv[1])
