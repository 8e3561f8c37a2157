"""Exit status as diff(1), and with `expect`: met 0, not met 1, an unexpected vacuous or incomparable 2."""

import pytest

from whydiff.engine.expectation import exit_status, shortfall
from whydiff.evidence.case import Expect
from whydiff.verdict import VERDICTS, Cause, Verdict


def cause(id_, *equivalent):
    return Cause(id_, "schedule", "sigmas", "words", {}, 1.0, "an experiment", equivalent=list(equivalent))


def verdict(word, *causes, unexplained=()):
    return Verdict(word, "a sentence", causes=list(causes), unexplained=list(unexplained))


@pytest.mark.parametrize(("word", "status"), list(zip(VERDICTS, (0, 0, 0, 1, 2, 2), strict=True)))
def test_without_an_expectation_the_status_is_that_of_diff(word, status):
    assert exit_status(verdict(word), None) == status
    assert exit_status(verdict(word), Expect()) == status


@pytest.mark.parametrize("word", VERDICTS)
def test_an_expected_verdict_is_status_0_whatever_it_is(word):
    assert exit_status(verdict(word), Expect(verdict=word)) == 0
    assert shortfall(verdict(word), Expect(verdict=word)) is None


@pytest.mark.parametrize(("got", "expected", "status"), [
    ("different", "same", 1), ("same", "different", 1), ("precision", "within_noise", 1), ("same", "within_noise", 1),
    ("within_noise", "same", 0), ("precision", "same", 1), ("vacuous", "same", 2), ("incomparable", "different", 2),
    ("vacuous", "incomparable", 2), ("different", "vacuous", 1),
])  # fmt: skip
def test_an_unexpected_verdict_is_1_and_2_where_nothing_was_compared(got, expected, status):
    assert exit_status(verdict(got), Expect(verdict=expected)) == status


def test_the_expected_causes_may_come_in_any_order():
    found = verdict("different", cause("shift-constant"), cause("seed"))
    assert exit_status(found, Expect(verdict="different", causes=["seed", "shift-constant"])) == 0


@pytest.mark.parametrize("expected", [["seed"], ["seed", "shift-constant", "prompt"], [], ["prompt", "seed"]])
def test_the_set_of_causes_is_exact(expected):
    found = verdict("different", cause("shift-constant"), cause("seed"))
    assert exit_status(found, Expect(verdict="different", causes=expected)) == 1


def test_an_equivalent_id_is_accepted():
    found = verdict("different", cause("dynamic-shift-seq-len", "shift-constant"))
    assert exit_status(found, Expect(causes=["shift-constant"])) == 0


def test_one_cause_does_not_answer_for_two_expected_ids():
    found = verdict("different", cause("dynamic-shift-seq-len", "shift-constant"))
    assert exit_status(found, Expect(causes=["shift-constant", "dynamic-shift-seq-len"])) == 1


def test_causes_with_a_common_equivalent_are_assigned_where_an_assignment_exists():
    found = verdict("different", cause("a", "b", "c"), cause("d", "c"))
    assert exit_status(found, Expect(causes=["b", "c"])) == 0
    assert exit_status(found, Expect(causes=["c", "b"])) == 0


def test_something_unexplained_is_never_what_was_expected_of_causes():
    found = verdict("different", cause("seed"), unexplained=[{"stage": "vae", "probe": "decoded"}])
    assert exit_status(found, Expect(causes=["seed"])) == 1
    assert exit_status(found, Expect(verdict="different")) == 0


def test_the_shortfall_says_what_is_missing_and_what_is_new():
    words = shortfall(verdict("different", cause("seed")), Expect(verdict="same", causes=["prompt"]))
    assert "expected verdict same, got different" in words
    assert "expected and not named: prompt" in words
    assert "named and not expected: seed" in words
