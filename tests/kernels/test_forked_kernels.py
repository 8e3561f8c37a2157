"""Kernels forked from a warm process do what fresh ones do, and nothing of them stays behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from whydiff.errors import Trouble
from whydiff.kernels import preload
from whydiff.kernels.warm import FRESH, kernel_command, warming, way_of
from whydiff.notebooks import own_kernel, run_one

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
ABOUT = """
import os, sys
import numpy, torch
import matplotlib.pyplot as plt
print(os.getcwd(), sys.path[0], len(sys.argv), __name__, "whydiff.kernels.server" in sys.modules)
print(torch.get_num_threads(), plt.get_backend(), [name for name in os.environ if "CUDA" in name])
"""
PICTURE = "figure, axes = plt.subplots(figsize=(2, 1)); axes.plot([1, 2]);"


def notebook(folder, name, *cells, parameters="pids = ''  # file for process ids"):
    def cell(source, **metadata):
        return {"cell_type": "code", "id": f"c{len(source)}", "metadata": metadata, "source": source, "outputs": [],
                "execution_count": None}  # fmt: skip

    content = {"cells": [cell(parameters, tags=["parameters"]), *map(cell, cells)], "nbformat": 4, "nbformat_minor": 5,
               "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def kernels():
    """Sets how kernels start; with the command of forked ones."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # another value in each test, and so an environment of its own
    with own_kernel() as use, warming("fork") as warm:
        command, reason = kernel_command(warm, "fork")
        assert reason == ""
        yield use, command


def run(path, folder, **parameters):
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    return run_one(str(path), str(folder), parameters, 1 if path.stem == "ends" else 60)


def outputs(path, folder, **parameters):
    folder.mkdir(exist_ok=True)
    assert run(path, folder, **parameters) is None
    cells = json.loads((folder / path.name).read_text())["cells"]
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def text(found):
    return "".join("".join(output.get("text", ())) for output in found)


def gone(pid, within=5.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_forked_kernel_puts_out_what_a_fresh_one_does(kernels, tmp_path):
    use, forked = kernels
    path = notebook(tmp_path, "about.ipynb", ABOUT, PICTURE)
    use(forked)
    first = outputs(path, tmp_path / "forked")
    use(FRESH)
    fresh = outputs(path, tmp_path / "fresh")
    assert text(fresh) == text(first)
    assert fresh == first
    assert "image/png" in first[-1]["data"]


def test_forked_kernels_draw_different_numbers_from_machine_seeded_generators(kernels, tmp_path):
    use, forked = kernels
    use(forked)
    path = notebook(tmp_path, "drawn.ipynb",
                    "import random, numpy, torch, os; print(random.random(), numpy.random.rand(), torch.rand(1).item(), os.getppid())")  # fmt: skip
    one, other = (text(outputs(path, tmp_path / name)).split() for name in ("one", "other"))
    assert all(a != b for a, b in zip(one[:3], other[:3]))
    assert one[3] == other[3]  # both are children of the warm process


def test_a_kernel_with_another_environment_is_an_ordinary_one(kernels, tmp_path, monkeypatch):
    use, forked = kernels
    use(forked)
    path = notebook(tmp_path, "seen.ipynb", "import os, sys; print(os.environ.get('SEEN'), 'torch' in sys.modules)")
    assert text(outputs(path, tmp_path / "alike")) == "None True\n"
    monkeypatch.setenv("SEEN", "yes")
    assert text(outputs(path, tmp_path / "other")) == "yes False\n"


@pytest.mark.parametrize(("end", "words"), [("1 + 1", None), ("raise ValueError('too many')", "ValueError: too many"),
                                            ("os.kill(os.getpid(), 9)", "the kernel died"), ("import time; time.sleep(60)", "timeout")])  # fmt: skip
def test_no_kernel_is_left_however_a_notebook_ends(kernels, tmp_path, end, words):
    use, forked = kernels
    use(forked)
    path = notebook(tmp_path, "ends.ipynb", "import os; open(pids, 'w').write(str(os.getpid()))", end)
    failure = run(path, tmp_path, pids=str(tmp_path / "pids"))
    assert words in failure if words else failure is None
    assert gone(int((tmp_path / "pids").read_text()))


def test_an_interrupted_command_leaves_no_kernel(toy):
    folder = toy / "book"
    folder.mkdir()
    notebook(folder, "00_slow.ipynb", "import os; open(pids, 'w').write(f'{os.getpid()} {os.getppid()} '); import time; time.sleep(60)",
             parameters=f"pids = {str(toy / 'pids')!r}")  # fmt: skip
    script = 'from whydiff.headless import investigate; investigate("toy.yaml", folder="book", kernels="fork", out="out")'
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    kernel, warm = written(toy / "pids", lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert gone(kernel) and gone(warm)
    assert process.returncode != 0 and not list(toy.glob("*out*"))


def written(path, going_on):
    """The numbers in a file, once there are two."""
    while going_on():
        numbers = path.read_text().split() if path.exists() else []
        if len(numbers) == 2:
            return map(int, numbers)
        time.sleep(0.02)
    raise AssertionError("it ended before its kernel ran")


def test_a_process_that_may_not_be_forked_says_why(monkeypatch):
    import threading

    import torch

    lock = threading.Event()
    thread = threading.Thread(target=lock.wait, name="monitor")
    thread.start()
    assert preload.unfit() == "an import started the thread monitor"
    lock.set()
    thread.join()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert preload.unfit() == "an import initialised CUDA"
    monkeypatch.undo()
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(preload, "_compute", lambda: 1 / 0)
    assert preload.unfit() == "a fork could not compute (status 1)"
    monkeypatch.setattr(preload, "SELF_TEST_SECONDS", 0.1)
    monkeypatch.setattr(preload, "_compute", lambda: time.sleep(60))
    assert preload.unfit().startswith("a fork hung")


def test_a_way_to_start_kernels_that_there_is_not_is_refused(monkeypatch):
    with pytest.raises(Trouble, match="--kernels frsh: no such way to start kernels. Did you mean 'fresh'"):
        way_of("frsh")
    monkeypatch.setenv("WHYDIFF_KERNELS", "warm")
    with pytest.raises(Trouble, match="WHYDIFF_KERNELS warm"):
        way_of()
    with warming("fresh") as warm:
        assert warm is None and kernel_command(None, "fresh") == (FRESH, "")


def test_a_killed_warm_process_takes_its_kernels_along_and_later_ones_start_afresh(kernels, tmp_path):
    use, forked = kernels  # the last test that uses them
    use(forked)
    path = notebook(tmp_path, "kills.ipynb", "import os, sys; open(pids, 'w').write(str(os.getpid()))",
                    "assert 'torch' in sys.modules; os.kill(os.getppid(), 9); import time; time.sleep(60)")  # fmt: skip
    assert "the kernel died" in run(path, tmp_path, pids=str(tmp_path / "pids"))
    assert gone(int((tmp_path / "pids").read_text()))
    assert text(outputs(notebook(tmp_path, "seen.ipynb", "print('seen')"), tmp_path / "out")) == "seen\n"
