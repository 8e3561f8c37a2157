"""A check is calibrated on sound and broken subjects; the table says which of them it can tell apart."""

from whydiff.audits import check_calibration
from whydiff.measure.calibration import Reading, calibrate

FAULTS = {"negative": -1.0, "doubled": 2.0}
CHECKS = {
    "always": lambda subject, given: Reading(subject, True),
    "equal": lambda subject, given: Reading(subject, subject == 1.0),
    "strict": lambda subject, given: Reading(subject, given > 0 and subject == 1.0),
    "raises": lambda subject, given: Reading(1 / (subject + 1), True) if subject != -1 else [][given],
}


def made():
    return calibrate(CHECKS, ("sound", 1.0), FAULTS, [0, 1])


def test_a_check_that_passes_everything_is_blind():
    assert made().of("always").blind
    assert made().of("always").words == "blind: passes all of 2 faults"


def test_a_check_that_fails_sound_code_is_an_alarm():
    assert made().of("strict").alarms == (0,)
    assert "fails sound code on 1 of 2 inputs" in made().of("strict").words


def test_an_exception_counts_as_caught_and_is_kept_as_words():
    assert made().of("raises").caught == ("negative",)
    assert made().readings["raises", "negative", 0].words.startswith("IndexError")


def test_a_fault_that_no_check_catches_is_listed():
    blind = calibrate({"always": CHECKS["always"]}, ("sound", 1.0), FAULTS, [0])
    assert blind.uncaught() == ("negative", "doubled") and made().uncaught() == ()


def test_blind_checks_are_vacuous_and_one_seeing_check_ends_that():
    better = calibrate({"equal": CHECKS["equal"]}, ("sound", 1.0), FAULTS, [0])
    blind = calibrate({"always": CHECKS["always"]}, ("sound", 1.0), FAULTS, [0])
    assert check_calibration.audit(blind, better).verdict == "vacuous"
    assert check_calibration.audit(made(), better).verdict == "different"


def test_tables_show_a_column_for_faults_only_where_some_were_planted():
    alone = calibrate(CHECKS, ("sound", 1.0), {}, [0])
    assert "faults it catches" in check_calibration.check_by_check(made()).columns
    assert "faults it catches" not in check_calibration.check_by_check(alone).columns
