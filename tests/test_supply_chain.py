"""What whydiff brings along is known by its licence, and nothing of it talks to the network."""

import os
import pathlib
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Imported by every Python that starts: the command, its workers, the notebooks' kernels. Loopback is how kernels are spoken to.
DENY = """
import os, sys
_HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)
def _deny(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
        host = address[0] if isinstance(address, tuple) else address if event.startswith("socket.get") else None
        if host not in _HERE:
            with open(os.environ["DENIED"], "a") as log:
                print(event, address, file=log)
            raise OSError(f"the network is denied: {event} {address}")
sys.addaudithook(_deny)
"""


def test_every_locked_package_is_listed_with_its_licence():
    licences = runpy.run_path(str(ROOT / "docs" / "licences.py"))
    rows = [line.split(" | ") for line in (ROOT / "docs" / "licences.md").read_text().splitlines() if line.startswith("| ")]
    listed = {row[0].removeprefix("| "): row[2] for row in rows}
    assert [name for name in licences["locked"]() if name not in listed] == [], "run `make licences`"
    assert [name for name, licence in listed.items() if licence.startswith(("not stated", "not installed"))] == []
    assert len(licences["locked"]()) > 100


CALL = [word for pair in ("prompt=a red circle", "height=48", "width=64", "num_inference_steps=1", "max_sequence_length=16", "seed=0")
        for word in ("--call", pair)]  # fmt: skip


@pytest.mark.slow
def test_neither_command_nor_kernels_reach_for_the_network(toy):
    """A real pipeline and a whole workbook page, with every address but this machine's own denied, and every attempt kept."""
    (toy / "denied").mkdir()
    (toy / "denied" / "sitecustomize.py").write_text(DENY)
    log = toy / "log"
    variables = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")}
    variables |= {"DENIED": str(log), "PYTHONPATH": os.pathsep.join([str(toy / "denied"), *filter(None, [os.environ.get("PYTHONPATH")])])}

    def whydiff(*arguments):
        return subprocess.run([sys.executable, "-m", "whydiff.cli", *arguments], capture_output=True, text=True, env=variables, check=False)

    reach = [sys.executable, "-c", "import socket; socket.getaddrinfo('example.com', 80)"]
    proof = subprocess.run(reach, capture_output=True, env=variables, check=False)
    assert proof.returncode == 1 and "example.com" in log.read_text()  # it is denied indeed
    log.unlink()
    done = whydiff("record", f"{ROOT / 'data' / 'cases' / 'sides.py'}:reference", "--out", "real", "--no-floor", *CALL)
    assert done.returncode == 0, done.stderr
    done = whydiff("investigate", "toy.yaml", "--set", "candidate.build.noise_scale=1.5", "--only", "start_here", "--out", "out")
    assert done.returncode == 1, done.stderr
    assert (toy / "out" / "report.html").is_file() and not log.exists(), log.read_text()
