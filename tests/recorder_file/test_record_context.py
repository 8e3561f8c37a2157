"""Recording by a context: one network, networks by name, a pipeline, and what is left when the code inside raises."""

import pytest
import torch
from sides_recorded import CALL, SIDES

import whydiff
from whydiff.engine.recording import record_side
from whydiff.evidence.recording.standalone import record, recording
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.tensor_files import tensor_sha256


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)

    def forward(self, hidden_states, timestep):
        return self.first(hidden_states) * timestep


def sample(net, *timesteps):
    x = torch.ones(1, 3, 4)
    for t in timesteps:
        x = net(x, timestep=torch.tensor(t))
    return x


def test_a_network_is_recorded_and_a_new_timestep_begins_a_step(tmp_path):
    net = Net()
    with record(net, tmp_path / "t", modules=["transformer/*"]), torch.no_grad():
        sample(net, 9.0, 9.0, 5.0)
    trace = read_trace(tmp_path / "t")
    assert [(p.step, p.occurrence) for p in trace.at("noise_pred_text")] == [(0, 0), (0, 1), (1, 0)]
    assert {p.module for p in trace if p.probe == "modules"} == {"transformer/first"} and trace.complete


def test_networks_by_name_keep_their_names_and_hooks_go_with_the_context(tmp_path):
    net = Net()
    with record({"transformer_2": net}, tmp_path / "t"), torch.no_grad():
        sample(net, 9.0)
    with torch.no_grad():
        sample(net, 5.0)
    trace = read_trace(tmp_path / "t")
    assert {e.component for e in trace.events.values()} == {"transformer_2"} and trace.steps == 1
    assert not net._forward_hooks and not net._forward_pre_hooks


def test_everything_that_is_called_inside_a_recording_is_seen_and_nothing_after_it(tmp_path):
    before = torch.nn.Module.__call__
    with recording(tmp_path / "t"), torch.no_grad():
        sample(Net(), 9.0)
        sample(Net(), 5.0)
        whydiff.tap("sigmas", torch.ones(3))
    assert torch.nn.Module.__call__ is before and whydiff.tap("sigmas", 1) == 1
    assert {e.component for e in read_trace(tmp_path / "t").events.values()} == {"transformer", "transformer_2", None}


def test_code_that_raises_inside_leaves_an_incomplete_trace(tmp_path):
    with pytest.raises(ZeroDivisionError), recording(tmp_path / "t"):
        whydiff.tap("sigmas", torch.ones(3))
        raise ZeroDivisionError
    assert not read_trace(tmp_path / "t").complete


def test_a_full_disk_ends_the_recording_and_not_the_program(tmp_path, monkeypatch, capsys):
    with recording(tmp_path / "t") as recorder:
        whydiff.tap("sigmas", torch.ones(3))
        monkeypatch.setattr(recorder.file, "write", lambda event: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert torch.equal(whydiff.tap("latents", torch.ones(5), step=0), torch.ones(5))
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.slow
def test_a_pipeline_is_recorded_as_whydiff_record_records_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SIDES.parent))
    import sides

    record_side(f"{SIDES}:reference", tmp_path / "whole", build={}, call=CALL, floor=False)
    call = {k: v for k, v in CALL.items() if k != "seed"}
    pipe = sides.reference()
    with whydiff.record(pipe, tmp_path / "context"):
        pipe(generator=torch.Generator().manual_seed(0), **call)
    with recording(tmp_path / "around"):
        sides.reference()(generator=torch.Generator().manual_seed(0), **call)
    whole = read_trace(tmp_path / "whole")
    for name in ("context", "around"):
        trace = read_trace(tmp_path / name)
        assert set(trace) == set(whole) and trace.absent == whole.absent and trace.settings["height"] == CALL["height"]
        assert all(tensor_sha256(trace[p]) == tensor_sha256(whole[p]) for p in whole)
        assert trace.producer["name"] == whole.producer["name"] and trace.producer["code"] == whole.producer["code"]
