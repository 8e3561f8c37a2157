"""Writing behind the run: bounded, in order, once for each tensor, and never a hindrance."""

import threading
import types

import pytest
import torch

from whydiff import Place, Trouble
from whydiff.evidence.recording.behind import Behind, megabytes
from whydiff.evidence.recording.copies import Copies
from whydiff.evidence.recording.standalone import recording
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace_writer import Held, TraceWriter
from whydiff.taps import tap


class Slow:
    """A writer that waits until it may."""

    pending = ()

    def __init__(self, error=None):
        self.may, self.written, self.error = threading.Event(), [], error

    def write(self, event):
        self.may.wait(10)
        if self.error:
            raise self.error
        self.written.append(event.name)


def event(name, elements=100):
    return types.SimpleNamespace(name=name, held=Held(torch.zeros(elements)))


def behind(slow, limit, wait=True, failed=None):
    return Behind(slow, limit, wait, failed or (lambda error: None))


def test_a_run_waits_where_the_queue_is_full_and_nothing_is_lost_or_turned_round():
    slow = Slow()
    queue = behind(slow, 1000)
    done = threading.Event()

    def run():
        for name in range(8):
            queue.put(event(name))
            assert queue.bytes <= 1000
        queue.put(event("large", 10_000))  # larger than the limit: it waits alone
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not done.wait(0.2)
    slow.may.set()
    thread.join(10)
    queue.end()
    assert slow.written == [*range(8), "large"] and not queue.left_out


def test_what_finds_no_place_is_left_out_and_counted_where_the_run_must_not_wait():
    slow = Slow()
    queue = behind(slow, 1000, wait=False)
    for name in range(5):
        queue.put(event(name))
    slow.may.set()
    queue.end()
    assert slow.written == [0, 1] and queue.left_out == 3


def test_an_error_ends_the_writing_and_sets_a_waiting_run_free():
    found = []
    slow = Slow(OSError("disk full"))
    queue = behind(slow, 500, failed=found.append)
    queue.put(event(0))
    thread = threading.Thread(target=lambda: [queue.put(event(i)) for i in range(1, 5)])
    thread.start()
    slow.may.set()
    thread.join(10)
    queue.end()
    assert not thread.is_alive() and [str(error) for error in found] == ["disk full"]


def test_a_trace_says_how_many_tensors_were_left_out_and_is_not_called_whole(tmp_path, monkeypatch):
    may = threading.Event()
    write = TraceWriter.write
    monkeypatch.setattr(TraceWriter, "write", lambda self, event: may.wait(10) and write(self, event))
    with recording(tmp_path / "t", queue=0.001, when_full="drop"):
        for i in range(4):
            tap("latents", torch.full((200,), float(i)), step=i)
        may.set()
    assert '{"left_out": 3}' in (tmp_path / "t" / "trace.jsonl").read_text()
    trace = read_trace(tmp_path / "t")
    assert list(trace) == [Place("latents", 0)] and not trace.complete


@pytest.mark.parametrize("level", ["full", "fingerprint"])
def test_a_tensor_that_is_shown_twice_is_looked_at_and_stored_once(tmp_path, level):
    shown = torch.randn(3000)
    with recording(tmp_path / "t", level=level) as recorder:
        first = recorder.copies.of(shown)
        assert recorder.copies.of(shown) is first and recorder.copies.of(shown.clone()) is not first
        for name in ("noise_pred", "latents"):
            tap(name, shown, step=0)
        shown[7] = float("nan")  # written to in between: another tensor
        tap("image", shown)
    lines = (tmp_path / "t" / "trace.jsonl").read_text()
    trace = read_trace(tmp_path / "t")
    if level == "full":
        assert lines.count('"key": "0"') == 2 and lines.count('"key": "1"') == 1
        assert torch.equal(trace["latents"], trace["noise_pred"]) and trace["image"][7].isnan()
    else:
        assert trace.sketches[Place("image")].nonfinite == 1 and trace.sketches[Place("latents", 0)].nonfinite == 0


def test_a_zero_of_the_other_sign_is_another_tensor():
    shown = torch.zeros(4)
    copies = Copies()
    first = copies.of(shown)
    shown.neg_()
    assert copies.of(shown) is not first


def test_memory_of_a_copy_is_used_again_only_when_nobody_needs_the_copy():
    copies = Copies()
    held = [copies.of(torch.full((20_000,), float(i))) for i in range(10)]
    assert len({one.tensor.data_ptr() for one in held}) == 10
    assert all(float(one.tensor[0]) == i for i, one in enumerate(held))
    at = held[0].tensor.data_ptr()  # no longer among the recent ones
    del held[0]
    assert copies.of(torch.full((200, 100), -1.0).T).tensor.data_ptr() == at


@pytest.mark.parametrize("numel", [1, 20_000, 300_000, 1_000_001])
@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.complex128])
def test_a_copy_of_any_size_is_the_tensor_and_lies_apart_from_it(numel, dtype):
    copies, shown = Copies(), (torch.arange(3 * numel) % 2).view(3, numel).to(dtype).T
    first, other = copies.of(shown).tensor, copies.of(~shown if dtype is torch.bool else -shown).tensor
    kept = shown.clone()
    shown.zero_()
    assert first.untyped_storage().nbytes() == copies.of(kept).size  # what waits is counted with the room that it takes
    assert first.dtype is dtype and torch.equal(first, kept) and not torch.equal(other, kept)


def test_a_copy_that_is_on_its_way_is_waited_for_before_it_is_looked_at():
    arrived = []
    held = Held(torch.zeros(3), lambda: (arrived.append(1), held.tensor.fill_(2.0)))
    assert held.facts("full")["stats"]["mean"] == 2.0 and held.arrived() is held.tensor and arrived == [1]


@pytest.mark.parametrize("said", ["much", 0, -1, None])
def test_a_queue_of_no_size_is_refused(said):
    with pytest.raises(Trouble, match="is no number of MB"):
        megabytes(said)
