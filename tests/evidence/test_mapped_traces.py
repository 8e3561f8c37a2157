"""Traces and arrays larger than memory: compared from their files, whose pages leave memory again."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from whydiff.evidence.traces.files import read_tensors
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure import mapped
from whydiff.measure.compare import compare, relative_l2
from whydiff.places import Place

PROGRAM = """
import sys
import torch, whydiff
from whydiff.engine.files import compare_files
from whydiff.measure import mapped
from whydiff.measure.onepass import machine

mapped.LARGE = machine.LARGE = 1
def status(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what + ":"))
whydiff.compare(torch.ones(1 << 20), torch.ones(1 << 20))
base = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
word = compare_files(sys.argv[1], sys.argv[2]).verdict
print(word, status("VmHWM") - base)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="only Linux tells how much was resident at most")
def test_two_traces_are_compared_in_a_fraction_of_their_size(tmp_path):
    values = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0))
    for name in ("a", "b"):
        trace = Trace()
        for step in range(6):
            trace.add(Event(Place("latents", step), values * (1 + 1e-3 * step * (name == "b"))))
        trace.save(tmp_path / name)
    lib = pathlib.Path(mapped.__file__).parents[2]
    run = [sys.executable, "-c", PROGRAM, tmp_path / "a", tmp_path / "b"]
    word, kilobytes = subprocess.check_output(run, text=True, env=os.environ | {"PYTHONPATH": str(lib)}).split()
    assert word == "different" and int(kilobytes) < 64 * 1024  # of 192 MiB


def test_what_was_let_go_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "LARGE", 1)
    held = {"x": torch.randn(3000, 7), "y": torch.arange(5), "z": torch.randn(2, 3).bfloat16(), "none": torch.empty(0, 4)}
    save_file(held, tmp_path / "t.safetensors")
    found = read_tensors(tmp_path / "t.safetensors")
    for _ in range(2):
        assert all(torch.equal(found[key], held[key]) and found[key].dtype == held[key].dtype for key in held)
        mapped.let_go(*found.values())
    assert compare(found["x"].T, held["x"].T).equal and relative_l2(found["x"], held["x"]) == 0


def test_memory_of_ones_own_is_never_let_go():
    values = torch.randn(1 << 16)
    kept = values.clone()
    mapped.let_go(values)
    with mapped.read_ahead(values, values, 0, 1 << 16):
        pass
    assert torch.equal(values, kept)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_is_mapped_whatever_its_order(tmp_path, monkeypatch, order):
    array = np.asarray(np.random.default_rng(0).normal(size=(30, 20, 10)).astype(np.float32), order=order)
    np.save(tmp_path / "a.npy", array)
    small = read_tensors(tmp_path / "a.npy")[""]
    monkeypatch.setattr(mapped, "LARGE", 1)
    found = read_tensors(tmp_path / "a.npy")[""]
    assert torch.equal(found, small) and torch.equal(found, torch.from_numpy(array)) and mapped._leaves(found) and not mapped._leaves(small)


def test_a_trace_may_be_removed_while_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "LARGE", 1)
    trace = Trace()
    trace.add(Event(Place("latents", 0), torch.arange(1000.0)))
    trace.save(tmp_path / "t")
    found = read_trace(tmp_path / "t")
    for file in (tmp_path / "t").iterdir():
        file.unlink()
    assert found["latents"].sum() == 499500
