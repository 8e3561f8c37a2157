"""LongCat in small: the note's checks are blind, the calibrated ones are not, and the notebook's verdict follows its inputs."""

import math
import types

import pytest
import torch

from whydiff import Trouble


@pytest.fixture(scope="module")
def story():
    from longcat import story

    return story


@pytest.fixture(scope="module")
def used(story):
    return story.note_checks([], seeds=1)


@pytest.fixture(scope="module")
def better(story):
    return story.calibrated_checks([], seeds=1)


def test_the_six_checks_of_the_note_pass_all_seventeen_faults(used):
    assert len(used.faults) == 17 and len(used.checks) == 6
    assert all(used.passed(check, subject) == 1 for check in used.checks for subject in (used.sound, *used.faults))


def test_the_calibrated_checks_pass_the_sound_port_and_catch_every_fault(better):
    assert better.uncaught() == ()
    assert not any(better.of(check).alarms for check in better.checks)
    assert len(better.of("output, held against the original").caught) == 17


def test_missing_weights_are_seen_by_strict_loading_alone_of_the_checks_without_numbers(better):
    assert better.of("weights loaded strictly").caught == ("last block missing", "no weights loaded")


def test_a_flipped_sign_and_a_factor_are_named(better):
    words = {fault: better.readings["what the scheduler receives", fault, 0].words for fault in ("sign flipped", "output doubled")}
    assert words == {"sign flipped": "candidate = -reference", "output doubled": "candidate = 2 · reference"}


def test_each_fault_of_the_sampler_is_caught(story):
    around = story.calibrated_checks([], around=True)
    assert around.uncaught() == ()
    assert around.of("the stage's own guidance").caught == ("ordinary guidance for CFG-zero",)
    assert "mask not passed" in around.of("arguments bound by name").caught


def test_the_notes_checks_fail_sound_code_on_early_steps(story):
    alarms = story.note_alarms(seeds=1)
    failing = {check for check in alarms.checks if alarms.of(check).alarms}
    assert failing == {"negation effect", "Test 1, output", "Test 2, CFG"}


def test_the_port_equals_the_original_in_float32():
    from longcat.inputs import pipeline_inputs
    from longcat.note_checks import predictions
    from longcat.pipeline import candidate, reference

    from whydiff.measure.compare import relative_l2

    given = pipeline_inputs(0)
    assert relative_l2(predictions(reference(), given)[0], predictions(candidate(), given)[0]) < 1e-6


@pytest.mark.parametrize("steps", [4, 16, 50])
def test_a_grid_without_a_list_ends_ten_times_higher(story, steps):
    once, twice = story.schedules(steps, pass_sigmas=False)[0].values()
    assert (once[-2], twice[-2]) == pytest.approx((0.01187, 0.12598), abs=1e-5)  # facts, C2
    once, again = story.schedules(steps)[0].values()
    assert once.tolist() == again.tolist()


def test_the_reference_raises_at_batch_two_and_is_wrong_at_sixteen(story):
    rows = {row[0]: row[1:] for row in story.guidance_by_batch().rows}
    assert rows[1][0] < 1e-6 and "RuntimeError" in rows[2][0] and rows[16][0] > 0.1
    assert all(row[1] < 1e-6 for row in rows.values())


def test_precision_is_a_ratio_near_one_and_a_real_fault_is_not():
    from longcat.inputs import pipeline_inputs
    from longcat.precision import ratio_to_floor

    ratio, anew, _ = ratio_to_floor([pipeline_inputs(0)], 4, fp32_islands=False)
    assert ratio < anew
    ratio, anew, _ = ratio_to_floor([pipeline_inputs(0)], 4, text_activation="silu")
    assert ratio > 3 * anew


def test_autocast_to_float32_leaves_a_bfloat16_layer_alone_on_the_cpu():
    from longcat.precision import autocast_to_float32

    assert not autocast_to_float32("cpu")
    assert torch.is_autocast_enabled() is False


def test_the_notes_scale_is_off_by_the_known_factors(story):
    wrong = story.scale_error(0.18215)
    assert (wrong.relative_l2, min(wrong.channels), max(wrong.channels)) == pytest.approx((1.49, 1.68, 4.88), abs=0.01)  # facts, C4
    with pytest.raises(Trouble, match="above 0"):
        story.scale_error(0)


def test_an_unknown_fault_is_answered_with_the_nearest_name(story):
    with pytest.raises(Trouble, match="Did you mean 'sign flipped'"):
        story.chosen(["sign fliped"])


def test_the_verdict_follows_what_was_measured(story, used, better):
    from whydiff.audits import check_calibration

    found = types.SimpleNamespace(verdict="different", causes=[], unexplained=[{"stage": "schedule", "probe": "sigmas"}], agrees=False)
    fine = types.SimpleNamespace(verdict="same", causes=[], unexplained=[], agrees=True)
    calibration = check_calibration.audit(used, better)

    def verdict(diagnosis, options, ratio, scale):
        sigmas = story.schedules(50, **options)[0]
        return story.verdict(calibration, {"x": diagnosis}, sigmas, story.guidance_by_batch((1,)), (ratio, 1.3), False, story.scale_error(scale))

    bad, good = verdict(found, {"pass_sigmas": False}, 1.01, 0.18215).words(), verdict(fine, {}, 2.0, 0.18215).words()
    assert "0.126 in the port" in bad and "unexplained, here: schedule, sigmas" in bad and "precision is not to blame" in bad
    assert "last sigma" not in good and "unexplained" not in good and "precision is to blame" in good
    assert calibration.verdict == "vacuous" and math.isclose(used.inputs, 1)


def test_fewer_faults_change_the_count(story):
    from whydiff.audits import check_calibration

    names = ["no RoPE", "sign flipped"]
    words = check_calibration.audit(story.note_checks(names, 1), story.calibrated_checks(names)).words()
    assert "catch 0 of 2 planted faults" in words and "catch 2 of 2" in words
