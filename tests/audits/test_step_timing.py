"""Outlying steps laid over schedules: what stands out, what the schedule does there, and when nothing can be said."""

import pathlib

import pytest

from whydiff.audits import step_timing
from whydiff.evidence.readers.step_log import of_list, read_step_times
from whydiff.formulas.schedule import grid_sigmas
from whydiff.report.views import shift_intervals, step_times

WAN_LOGS = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases" / "wan22_expert_switch"
SIGMAS = {role: grid_sigmas("unipc", 27, shift, terminal=True) for role, shift in (("reference", 12.0), ("candidate", 3.0))}
SWITCHES = {"reference": 18, "candidate": 9}


def spiking(step=None, seconds=50.0, count=27):
    return of_list([110.0, *(seconds if i == step else 20.0 + i % 2 for i in range(1, count))], 1.0)


def test_the_same_spike_is_the_switch_of_one_schedule_and_not_of_the_other():
    result = step_timing.judge({"candidate": spiking(9)}, SIGMAS, SWITCHES, 0.875)
    assert result.verdict == "different"
    assert "step 9 (tqdm shows 10) is long: there the second expert takes over on the candidate" in result.words()
    assert "on the reference the second expert takes over at step 18, and the candidate's log shows nothing there" in result.words()


def test_a_spike_where_no_side_switches_is_solved_for_the_shift_that_would():
    result = step_timing.judge({"candidate": spiking(12)}, SIGMAS, SWITCHES, 0.875)
    rows = result.exhibits["shifts"].rows
    assert {row[1] for row in rows} == {12} and min(row[3] for row in rows) < 5.0 < max(row[4] for row in rows)
    words = f"neither side changes experts there; a shift from {min(row[3] for row in rows):.4g} to {max(row[4] for row in rows):.4g}"
    assert words in result.words()


def test_the_first_step_is_not_held_against_anybody():
    result = step_timing.judge({"candidate": spiking()}, {}, {})
    assert result.verdict == "within_noise" and "compilation and warm-up" in result.words()


def test_two_logs_agree_when_the_same_steps_stand_out_however_far():
    same = {"reference": spiking(9, 50), "candidate": spiking(9, 45)}
    assert step_timing.judge(same, SIGMAS, {"reference": 9, "candidate": 9}, 0.875).verdict == "within_noise"
    moved = step_timing.judge({"reference": spiking(18), "candidate": spiking(9)}, SIGMAS, SWITCHES, 0.875)
    assert moved.verdict == "different" and "only in the reference's log stand out: 18; only in the candidate's: 9" in moved.words()


def test_a_log_of_another_length_is_not_laid_over_the_schedule():
    result = step_timing.judge({"candidate": spiking(9, count=40)}, SIGMAS, SWITCHES, 0.875)
    assert "they are not laid over each other" in result.words() and "there the second expert" not in result.words()


def test_short_steps_stand_out_too():
    assert "step 7 (tqdm shows 8) is short" in step_timing.judge({"candidate": spiking(7, 2.0)}, {}, {}).words()


def test_a_study_and_two_published_logs_tell_which_job_had_which_shift(wan):
    result = step_timing.audit(wan, str(WAN_LOGS / "job_1417511.txt"), str(WAN_LOGS / "job_1459996.log"))
    assert result.exhibits["switches"] == SWITCHES
    assert "on the candidate step 9 (tqdm shows 10) is long: there the second expert takes over on the candidate" in result.words()
    assert "on the reference step 18 (tqdm shows 19) is long: there the second expert takes over on the reference" in result.words()
    assert step_timing.audit(wan, str(WAN_LOGS / "job_1417509.txt")).verdict == "within_noise"  # layerwise: no spike


def test_the_pictures_draw_what_they_are_given():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    times = {"reference": read_step_times(WAN_LOGS / "job_1459996.log"), "candidate": spiking(9)}
    result = step_timing.judge(times, SIGMAS, SWITCHES, 0.875)
    step_times(axes, result.exhibits["times"], result.exhibits["outliers"], result.exhibits["switches"])
    words = [text.get_text() for text in axes.texts]
    assert "49.7 s" in words and "50 s" in words and "110 s ↑" in words
    empty = step_times(plt.subplots()[1], {}, {})
    assert empty.get_title() == "No step times were given"
    assert "No shift" in shift_intervals(plt.subplots()[1], []).get_title()
    plt.close("all")


@pytest.mark.parametrize("log", ["job_1417509.txt", "job_1417511.txt", "job_1459996.log"])
def test_every_published_log_has_27_steps_and_a_long_first_one(log):
    times = read_step_times(WAN_LOGS / log)
    assert times.count == 27 and times.seconds[0] == max(times.seconds)
