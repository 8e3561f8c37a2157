"""A case file is read strictly, and every mistake is answered with one line that helps."""

import pytest

from whydiff import Trouble
from whydiff.evidence.case import load_case, make_case, parse_yaml, set_key

MINIMAL = {"reference": {"settings": {"height": 48}}, "candidate": {"settings": {"height": 64}}}


@pytest.mark.parametrize("change, message", [
    ({"refrence": {}}, "unknown key 'refrence'. Did you mean 'reference'"),
    ({"reference": {"live": {"entry": "a.py:f", "bild": {}}}}, "unknown key 'reference.live.bild'. Did you mean 'build'"),
    ({"candidate": {"buld": {}}}, "unknown key 'candidate.buld'. Did you mean 'live.build'"),
    ({"record": {"everything": 1}}, "unknown key 'record.everything'. Known: modules, steps"),
    ({"candidate": {"name": "x"}}, "needs at least one of live, trace, settings, image"),
    ({"candidate": {"settings": {"a": 1}, "declares": {"dtyp": "bfloat16"}}}, "Did you mean 'dtype'"),
    ({"expect": {"verdict": "diferent"}}, "expect"),
])  # fmt: skip
def test_a_wrong_key_is_answered_with_its_place_and_the_nearest_known_one(change, message):
    with pytest.raises(Trouble) as error:
        make_case(MINIMAL | change, "case.yaml")
    assert str(error.value).startswith("case.yaml: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_side_is_named():
    with pytest.raises(Trouble, match="the key 'candidate' is missing"):
        make_case({"reference": {"settings": {"a": 1}}})


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path):
    (tmp_path / "flux.yaml").write_text("")
    with pytest.raises(Trouble, match="no such case. Did you mean 'flux.yaml'"):
        load_case(tmp_path / "fluxx.yaml")


def test_broken_yaml_is_answered_with_its_line(tmp_path):
    (tmp_path / "c.yaml").write_text("title: x\nreference: {a: [1, 2\n")
    with pytest.raises(Trouble, match=r"c.yaml, line \d+: not valid YAML"):
        load_case(tmp_path / "c.yaml")


def test_numbers_and_words_are_those_of_yaml_1_2():
    assert parse_yaml("{a: 1e-3, b: yes, c: 007}", "x") == {"a": 0.001, "b": "yes", "c": 7}


def test_a_side_s_build_and_call_can_be_set_without_naming_live():
    data = {"candidate": {"live": {"entry": "s.py:f", "build": {}}}}
    set_key(data, "candidate.build.shift", 3, "case")
    assert data["candidate"]["live"]["build"] == {"shift": 3}


def test_expect_may_be_one_word():
    assert make_case(MINIMAL | {"expect": "vacuous"}).expect.verdict == "vacuous"
