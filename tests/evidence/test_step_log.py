"""Step times out of logs: bars that the real tqdm drew, whatever stands around them, and plain lists."""

import io
import pathlib

import numpy as np
import pytest
import tqdm.std

from whydiff.errors import Trouble
from whydiff.evidence.readers.step_log import bars, read_step_times

WAN = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases" / "wan22_expert_switch"


@pytest.fixture
def drawn(monkeypatch):
    """A function that lets tqdm draw a bar of steps that took the given seconds, on a clock that is turned by hand."""

    def draw(times, **options):
        now = [1000.0]
        monkeypatch.setattr(tqdm.std.tqdm, "_time", staticmethod(lambda: now[0]), raising=False)
        text = io.StringIO()
        bar = tqdm.std.tqdm(total=len(times), file=text, disable=False, **options)
        bar._time = lambda: now[0]
        bar.start_t = bar.last_print_t = now[0]
        for time in times:
            now[0] += time
            bar.update(1)
        bar.close()
        return text.getvalue()

    monkeypatch.setattr(tqdm.std.TMonitor, "__init__", lambda self, *a: None, raising=False)
    monkeypatch.setattr(tqdm.std.tqdm, "monitor_interval", 0)
    return draw


def write(tmp_path, text):
    path = tmp_path / "run.log"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_steps_behind_a_bar_that_tqdm_drew(drawn, tmp_path):
    times = np.random.default_rng(0).normal(20, 0.5, 27)
    times[0], times[9] = 110, 47
    found = read_step_times(write(tmp_path, drawn(times)))
    assert found.shown[9] < 31  # what somebody saw
    assert (np.abs(found.seconds - times) <= found.errors + 1e-6).all() and found.errors.max() < 0.03
    assert found.count == 27 and "undone" in found.origin and not found.notes


def test_fast_steps_are_shown_per_second_and_may_come_several_at_a_time(drawn, tmp_path):
    times = [0.02] * 40
    found = read_step_times(write(tmp_path, drawn(times)))
    assert found.count == 40
    assert (np.abs(found.seconds - 0.02) <= found.errors + 1e-6).all()


def test_a_bar_of_another_smoothing_is_noticed_and_its_clock_is_taken(drawn, tmp_path):
    times = [20] * 9 + [50] + [20] * 9
    found = read_step_times(write(tmp_path, drawn(times, smoothing=0.9)))
    assert found.origin.endswith("whole seconds") and "smoothing" in found.notes[0]
    assert (np.abs(found.seconds - times) <= found.errors).all()


def test_bars_are_told_apart_in_a_log_full_of_other_things(drawn, tmp_path):
    log = "[02-20] loading\n" + drawn([1, 2, 3], desc="Loading") + "0.5 ms 69.0% [not a bar]\n"
    log += drawn([20] * 12) + "\nwarning\n" + drawn([30] * 12)
    assert [(bar.label, bar.total) for bar in bars(log)] == [("Loading:", 3), ("", 12), ("", 12)]
    found = read_step_times(write(tmp_path, log))
    assert found.seconds == pytest.approx([30] * 12, abs=0.03) and "2 bars" in found.notes[0]
    assert read_step_times(write(tmp_path, log), steps=3).seconds == pytest.approx([1, 2, 3], abs=0.03)
    with pytest.raises(Trouble, match="no bar of 13 steps"):
        read_step_times(write(tmp_path, log), steps=13)


def test_a_published_bar_agrees_with_its_own_clock():
    """Job 1459996, run 3: 618.56 s of denoising; the switch took 49 s by the clock where the bar shows 29.65."""
    found = read_step_times(WAN / "job_1459996.log")
    assert found.seconds.sum() == pytest.approx(618.56, abs=0.5)
    assert found.seconds[18] == pytest.approx(49.5, abs=1) and found.shown[18] == 29.65


@pytest.mark.parametrize("text", ["1.5, 2.5 3.5  # seconds\n", "[1.5, 2.5, 3.5]", "# a comment\n1.5\n2.5\n3.5\n"])
def test_lists_are_read_with_the_rounding_of_their_digits(tmp_path, text):
    found = read_step_times(write(tmp_path, text))
    assert found.seconds.tolist() == [1.5, 2.5, 3.5] and found.errors == pytest.approx([0.05] * 3)


@pytest.mark.parametrize("text", ["", "no numbers here", "1.0, -2", "[1, [2]]", '{"a": 1}', "nan 1"])
def test_what_holds_no_step_times_is_one_line(tmp_path, text):
    with pytest.raises(Trouble, match="run.log"):
        read_step_times(write(tmp_path, text))


def test_a_log_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(Trouble, match=r"absent\.log"):
        read_step_times(tmp_path / "absent.log")
