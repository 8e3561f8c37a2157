"""The cases that a sweep file stands for."""

import json

import pytest

from whydiff import Trouble
from whydiff.cli import run
from whydiff.sweep.grid import plan
from whydiff.sweep.keys import code_files, key


def calls(planned):
    return [planned.data[role]["live"]["call"] for role in ("reference", "candidate")]


def test_a_grid_is_crossed_and_a_list_comes_after_it_on_the_base_alone(sweep_file):
    found = plan(sweep_file("""
        set: {call.num_inference_steps: 2}
        grid: {call.seed: [0, 1], candidate.build.noise_scale: [1.0, 1.5]}
        list: [{name: tall, set: {call.height: 16}}]
    """)).cases
    assert [one.name for one in found] == ["seed=0,noise_scale=1.0", "seed=0,noise_scale=1.5", "seed=1,noise_scale=1.0",
                                           "seed=1,noise_scale=1.5", "tall"]  # fmt: skip
    assert [call["seed"] for call in calls(found[2])] == [1, 1]
    assert found[1].data["candidate"]["live"]["build"] == {"noise_scale": 1.5}
    assert calls(found[4]) == [{"prompt": "a circle", "seed": 0, "num_inference_steps": 2, "height": 16}] * 2


def test_a_key_of_one_side_leaves_the_other_alone_also_where_an_anchor_makes_them_share_it(sweep_file):
    found = plan(sweep_file("grid: {candidate.call.seed: [3]}")).cases[0]
    assert [call["seed"] for call in calls(found)] == [0, 3]


def test_a_range_has_both_ends_and_labels_set_several_keys(sweep_file):
    found = plan(sweep_file("""
        grid:
          call.num_inference_steps: {from: 2, to: 6, step: 2}
          size: {wide: {call.height: 4, call.width: 8}, tall: {call.height: 8, call.width: 4}}
    """))
    assert found.axes == {"call.num_inference_steps": [2, 4, 6], "size": ["wide", "tall"]}
    assert found.cases[1].name == "num_inference_steps=2,size=tall"
    assert found.cases[1].settings == {"call.num_inference_steps": 2, "size": "tall"}
    assert calls(found.cases[1])[0]["height"] == 8


def test_values_that_words_would_not_tell_apart_are_numbered(sweep_file):
    long = "a very long prompt that goes on and on"
    names = [one.name for one in plan(sweep_file(f"grid: {{call.prompt: ['{long}', '{long} and on']}}")).cases]
    assert names == ["prompt=1", "prompt=2"]


def test_excluded_cases_are_left_out_and_the_last_expectation_that_fits_holds(sweep_file):
    found = plan(sweep_file("""
        grid: {call.seed: [0, 1, 2], candidate.build.noise_scale: [1.0, 1.5]}
        exclude: [{call.seed: [1, 2], candidate.build.noise_scale: 1.5}]
        expect: [same, {where: {candidate.build.noise_scale: 1.5}, verdict: different, causes: [init-noise-sigma-missing]}]
        list: [{name: own, set: {call.seed: 7}, expect: precision}]
    """)).cases
    assert [one.settings.get("call.seed") for one in found] == [0, 0, 1, 2, 7]
    assert [one.expect.verdict for one in found] == ["same", "different", "same", "same", "precision"]
    assert found[1].expect.causes == ["init-noise-sigma-missing"]


def test_names_can_be_made_by_a_template(sweep_file):
    assert plan(sweep_file("name: run {seed}\ngrid: {call.seed: [4]}")).cases[0].name == "run 4"


@pytest.mark.parametrize("text, words", [
    ("gird: {call.seed: [0]}", ["unknown key 'gird'", "'grid'"]),
    ("title: nothing", ["nothing is varied"]),
    ("grid: {call.seed: []}", ["grid: call.seed: is empty"]),
    ("grid: {call.seed: 3}", ["is 3", "list of values"]),
    ("grid: {call.seed: [0, 0]}", ["has 0 twice"]),
    ("grid: {call.seed: {from: 3, to: 1}}", ["a range is"]),
    ("grid: {call.seed: [0]}\nexclude: [{call.seed: 0}]", ["the grid is empty"]),
    ("grid: {call.seed: [0]}\nexclude: [{call.sead: 0}]", ["'call.sead'", "'call.seed'"]),
    ("grid: {call.seed: [0]}\nexclude: [{call.seed: 5}]", ["no call.seed of 5"]),
    ("grid: {candidate.bild.x: [0]}", ["case 'x=0'", "'candidate.bild'"]),
    ("grid: {call.seed: [0]}\nexpect: {verdict: sane}", ["expect", "verdict"]),
    ("grid: {call.seed: [0]}\nexpect: [{where: {seed: 0}, verdict: same}]", ["'seed' is not varied"]),
    ("list: [{name: a, set: {call.seed: 1}}, {name: A, set: {call.seed: 2}}]", ["two cases are called 'A'"]),
    ("list: [{sett: {call.seed: 1}}]", ["'list.0.sett'", "'set'"]),
    ("grid: {call.seed: [0]}\nname: '{sed}'", ["{sed} is not varied", "'seed'"]),
    ("grid: {call.seed: {from: 0, to: 200, step: 1}, call.height: {from: 1, to: 200}}", ["at most 20000"]),
])  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(sweep_file, capsys, text, words):
    assert run(["sweep", str(sweep_file(text)), "--dry-run"]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert all(word in said for word in words), said


def test_a_base_that_is_not_there_is_named_with_what_is_near(sweep_file, toys):
    (toys / "bad.yaml").write_text("base: toi.yaml\ngrid: {call.seed: [0]}")
    with pytest.raises(Trouble, match=r"toi\.yaml does not exist.*'toy\.yaml'"):
        plan(toys / "bad.yaml")


def test_dry_run_lists_the_cases_and_loads_nothing(sweep_file, toys, capsys):
    path = sweep_file("grid: {call.seed: [0, 1]}\nexpect: same")
    assert run(["sweep", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == "seed=0   expected: same\nseed=1   expected: same\n2 cases\n"
    assert run(["sweep", str(path), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["settings"] == {"call.seed": 1}
    assert not (toys / "loaded.txt").exists()


def test_a_result_depends_on_the_case_and_the_code_that_its_sides_import_but_not_on_what_is_expected(sweep_file, toys):
    def found(text="grid: {call.seed: [0]}"):
        from whydiff.sweep import keys

        for remembered in (keys._digest, keys._imported, keys._beside):
            remembered.cache_clear()
        return key(plan(sweep_file(text)).cases[0])

    first = found()
    assert found() == first == found("grid: {call.seed: [0]}\nexpect: different")
    assert found("grid: {call.seed: [1]}") != first
    (toys / "sides.py").write_text("import helper\n" + (toys / "sides.py").read_text())
    (toys / "helper.py").write_text("A = 1\n")
    (toys / "stranger.py").write_text("B = 1\n")
    second = found()
    assert {path.name for path in code_files(toys / "sides.py")} == {"sides.py", "helper.py"}
    (toys / "helper.py").write_text("A = 2\n")
    assert second not in (first, found())
