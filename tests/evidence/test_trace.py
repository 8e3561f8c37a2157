"""A trace gives back what was recorded, and says clearly what is wrong with a damaged one."""

import json
import subprocess
import sys

import pytest
import torch

from whydiff import Trace, Trouble
from whydiff.evidence.traces.trace import Event
from whydiff.evidence.traces.trace_writer import TraceWriter
from whydiff.places import Place, walk_key


def small_trace():
    trace = Trace(producer={"name": "test"}, settings={"seed": 0}, floor={"latents": 1e-7})
    trace.add(Event(Place("initial_noise"), torch.randn(1, 4, 6, 8)))
    trace.add(Event(Place("latents", step=0), torch.randn(1, 4, 6, 8).to(torch.bfloat16)))
    trace.add(Event(Place("model_input/timestep", step=0, branch="cond"), torch.tensor(999)))
    trace.add(Event(Place("modules", step=0, module="transformer/blocks.0", occurrence=2), torch.zeros(0, 3)))
    return trace


def test_a_trace_reads_back_exactly(tmp_path):
    trace = small_trace()
    again = Trace.load(trace.save(tmp_path / "t"))
    assert list(again) == list(trace)
    assert all(torch.equal(again[place], trace[place]) and again[place].dtype == trace[place].dtype for place in trace)
    assert (again.complete, again.floor, again.settings, again.producer) == (True, trace.floor, trace.settings, trace.producer)


def test_a_recording_killed_in_the_middle_reads_back_what_its_lines_name(tmp_path):
    code = """
import os, signal, sys, torch
from whydiff.evidence.traces.trace import Event
from whydiff.evidence.traces.trace_writer import TraceWriter
from whydiff.places import Place
writer = TraceWriter(sys.argv[1])
for i in range(40):
    writer.write(Event(Place("latents", step=i), torch.full((3,), float(i))))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t")], check=False)
    assert killed.returncode == -9
    again = Trace.load(tmp_path / "t")
    assert not again.complete
    assert len(again) == 32 and all(again[place][0] == place.step for place in again)


def test_a_second_recorder_into_one_folder_refuses(tmp_path):
    small_trace().save(tmp_path / "t")
    with pytest.raises(Trouble, match="exists already"):
        TraceWriter(tmp_path / "t")


def test_a_truncated_tensor_file_is_named(tmp_path):
    small_trace().save(tmp_path / "t")
    file = next((tmp_path / "t").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(Trouble, match=f"{file.name}: not a whole safetensors file"):
        Trace.load(tmp_path / "t")


@pytest.mark.parametrize("edit, message", [
    (lambda line: line | {"file": "../other.safetensors"}, "outside the trace folder"),
    (lambda line: line | {"file": "tensors-00009.safetensors"}, "is missing"),
    (lambda line: line | {"key": "99"}, "holds no tensor"),
    (lambda line: line | {"shape": [2, 2]}, "was promised"),
])  # fmt: skip
def test_a_line_that_lies_is_answered_with_its_number(tmp_path, edit, message):
    small_trace().save(tmp_path / "t")
    path = tmp_path / "t" / "trace.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    lines[1] = edit(lines[1])
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(Trouble, match=f"line 2.*{message}"):
        Trace.load(tmp_path / "t")


def test_a_missing_probe_is_answered_with_the_recorded_names_and_the_remedy():
    with pytest.raises(Trouble, match=r"'latens' was not recorded. Did you mean 'latents'\?.*whydiff.tap"):
        small_trace()["latens"]


def test_places_are_walked_in_pipeline_order():
    probes = ["image", "latents", "sigmas", "noise_pred", "input_ids_2", "initial_noise", "model_input/guidance", "vae_latents"]
    steps = {"latents": 0, "noise_pred": 0, "model_input/guidance": 0}
    walked = sorted((Place(p, steps.get(p)) for p in probes), key=walk_key)
    assert [p.probe for p in walked] == ["initial_noise", "input_ids_2", "sigmas", "model_input/guidance", "noise_pred", "latents",
                                         "vae_latents", "image"]  # fmt: skip


def test_a_line_cut_short_at_the_end_loses_only_itself(tmp_path):
    whole = Trace()
    for step in range(3):
        whole.add(Event(Place("latents", step), torch.full((2,), float(step))))
    path = whole.save(tmp_path / "t") / "trace.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3][:30])
    read = Trace.load(tmp_path / "t")
    assert len(read) == 2 and not read.complete


@pytest.mark.parametrize(("line", "words"), [
    ({"floor": [1]}, "floor is"), ({"floor": {"latents": "x"}}, "floor is"),
    ({"probe": "latents", "step": [1]}, "step is"), ({"probe": "latents", "shape": 3}, "shape is"),
])  # fmt: skip
def test_a_line_that_holds_something_else_is_named(line, words, tmp_path):
    whole = Trace()
    whole.add(Event(Place("latents"), torch.ones(2)))
    path = whole.save(tmp_path / "t") / "trace.jsonl"
    if "probe" in line:
        line |= {"file": "tensors-00001.safetensors", "key": 0}
    with path.open("a") as lines:
        lines.write(json.dumps(line) + "\n")
    with pytest.raises(Trouble, match=f"line 4: {words}"):
        Trace.load(tmp_path / "t")
