"""What many verdicts say together, and the files that say it."""

import csv
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest

from whydiff.evidence.case import Expect
from whydiff.sweep import findings
from whydiff.sweep.grid import Planned
from whydiff.sweep.junit import write_junit
from whydiff.sweep.results import Result, write_table


def result(differs, expect=None, name=None, causes=("shift-constant",), trouble="", **settings):
    told = {"verdict": "different" if differs else "same", "summary": "in words", "unexplained": [], "first_divergence": None, "causes": [
        {"id": id_, "stage": "schedule", "probe": "sigmas", "statement": "so", "relation": {}, "explained": 1.0, "experiment": "e"}
        for id_ in (causes if differs else ())]}  # fmt: skip
    planned = Planned(name or " ".join(f"{k}={v}" for k, v in settings.items()), settings, {}, pathlib.Path(), expect)
    return Result(planned, None if trouble else told, trouble, 0.5, {})


def grid(rule, **axes):
    import itertools

    return [result(rule(*values), **dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


@pytest.mark.parametrize("rule, words", [
    (lambda steps, seed: steps >= 8, "appears first at 8, and stays at every larger one"),
    (lambda steps, seed: steps == 8, "appears first at 8, but is not there at every larger one"),
    (lambda steps, seed: steps >= (8 if seed else 4), "appears first at 4 (4 to 8, depending on the other settings), and stays"),
    (lambda steps, seed: steps == 16, "appears first at 16"),
    (lambda steps, seed: seed == 1, "it does not matter"),
    (lambda steps, seed: True, "differs at every value, from 2 to 16"),
    (lambda steps, seed: False, "no difference at any value"),
])  # fmt: skip
def test_the_boundary_is_the_smallest_value_at_which_a_difference_appears(rule, words):
    results = grid(rule, steps=[2, 4, 8, 16], seed=[0, 1])
    assert words in findings.boundary(results, "steps", [2, 4, 8, 16])


def test_a_cause_is_told_with_the_setting_that_exactly_its_cases_have():
    results = grid(lambda dtype, seed: dtype == "float16", dtype=["float32", "float16"], seed=[0, 1])
    (cause,) = findings.causes(results, findings.axes_of(results))
    assert (cause.id, len(cause.cases), cause.where) == ("shift-constant", 2, "exactly where dtype is float16")
    results = grid(lambda dtype, seed: dtype == "float16" and seed, dtype=["float32", "float16"], seed=[0, 1])
    assert findings.causes(results, findings.axes_of(results))[0].where == ""


def test_truth_values_are_no_numbers():
    results = [result(True, on=True), result(False, on=1), result(False, on=0)]
    assert findings.axes_of(results)["on"] == [True, 1, 0]


def test_the_exit_status_counts_the_expectation():
    assert result(True).status == 1 and result(False).status == 0
    assert result(True, expect=Expect(verdict="different", causes=["shift-constant"])).status == 0
    assert result(True, expect=Expect(verdict="different", causes=["seed"])).status == 1
    assert result(False, expect=Expect(verdict="different")).status == 1
    assert result(False, trouble="it broke", expect=Expect(verdict="same")).status == 2


def test_a_spreadsheet_takes_no_text_of_a_case_for_a_formula(tmp_path):
    table = write_table(tmp_path, [result(False, name="a", prompt="=1+1", seed=-3), result(False, name="b", height=2)])
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["prompt"] == "'=1+1" and rows[0]["seed"] == "-3" and rows[1]["seed"] == ""


def test_junit_is_whole_also_with_signs_that_xml_cannot_hold(tmp_path):
    path = write_junit(tmp_path / "ci" / "j.xml", "t\x00", [result(True, name="a\x1b<&"), result(False, name="b", trouble="broke\x07")])
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert [case.get("name") for case in suite] == ["a\ufffd<&", "b"]
    assert suite.get("failures") == suite.get("errors") == "1"
    assert "shift-constant" in suite[0].find("failure").text
