"""Whatever ends or hinders a recording: what a line names reads back, and the program that is recorded goes on as if alone."""

import pathlib
import subprocess
import sys

import pytest

from whydiff.evidence.traces.reading import read_trace

HERE = pathlib.Path(__file__).parent

# A program that shows 40 tensors of 40 kB, whatever becomes of their recording, and prints what it computed.
PROGRAM = """
import contextlib, resource, sys, torch, whydiff
from whydiff.evidence.recording.standalone import recording
out, limit = sys.argv[1:]
if limit != "none":  # a disk that is full after so many bytes of a file
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
total = 0.0
with recording(out) if out != "none" else contextlib.nullcontext():
    for i in range(40):
        total += float(whydiff.tap("latents", torch.full((100, 100), float(i)), step=i).sum())
print("computed", total)
"""


def program(out, limit="none"):
    return subprocess.run([sys.executable, "-c", PROGRAM, str(out), str(limit)], capture_output=True, text=True, check=False)


def test_every_tensor_whose_line_was_written_survives_a_kill():
    """Twelve kills at random moments; `make reliability` does two hundred."""
    done = subprocess.run([sys.executable, HERE / "killed.py", "12", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 tensors read back" not in done.stdout, done.stdout


@pytest.mark.parametrize("limit", [200, 100_000])
def test_a_disk_that_is_full_ends_the_recording_and_says_so(tmp_path, limit):
    alone, full = program("none"), program(tmp_path / "t", limit)
    assert (full.returncode, full.stdout) == (0, alone.stdout)
    assert "whydiff_tap: cannot write" in full.stderr and "Traceback" not in full.stderr
    if limit > 200:  # otherwise not even the first line fits
        trace = read_trace(tmp_path / "t")
        assert not trace.complete and all(float(trace[place].mean()) == place.step for place in trace)


def test_a_folder_that_cannot_be_made_leaves_the_program_alone(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    hindered = program(tmp_path / "file" / "t")
    assert (hindered.returncode, hindered.stdout) == (0, program("none").stdout)
    assert "whydiff_tap: cannot write" in hindered.stderr and "Traceback" not in hindered.stderr
