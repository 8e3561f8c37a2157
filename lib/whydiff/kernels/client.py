"""What Jupyter starts and takes for the kernel: asks the warm process for a fork, passes signals on, ends as the fork ends.

Run by its path with `-I -S`, on the standard library alone, so that it starts in a few milliseconds. Where the warm process
is gone, or says that this kernel cannot be a fork of it, an ordinary kernel takes this process's place.
"""

import json
import os
import signal
import socket
import sys


def main(path, argv):
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps({"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}).encode() + b"\n")
        answers = connection.makefile("r")
        word, _, rest = answers.readline().partition(" ")
    except OSError:
        word, rest = "", ""
    if word != "forked":
        print(f"an ordinary kernel: {rest.strip() or 'the warm process is gone'}", file=sys.stderr, flush=True)
        os.execv(sys.executable, [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", *argv])
    pid = int(rest)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda sent, frame: os.kill(pid, sent))
    word, _, rest = answers.readline().partition(" ")  # goes on after a signal
    sys.exit(int(rest) if word == "ended" else 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
