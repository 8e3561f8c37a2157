"""Practice: bugs are drawn by level and seed, the page is told nothing, and a guess is worth what tensors can tell."""

import ast
import json
import pathlib

import nbformat
import pytest

from whydiff.errors import Trouble
from whydiff.faults.catalogue import load
from whydiff.faults.fault import FAULTS
from whydiff.widgets.practice import Practice, judged
from whydiff.widgets.round import LEVELS, drawn, level_of, main, truth

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "practice" / "find_the_bug.ipynb"

BOARD = {"kind": "board", "stages": [{"stage": "schedule", "causes": [{"id": "shift-constant"}]}]}


def round_of(fault: str = "shift-constant") -> dict:
    pictures = {"frames": [], "figures": "", "why": "none"}
    return {"shown": {"pictures": pictures, "board": {"stages": []}, "pipeline": "FluxPipeline"}, "hint": [{"name": "schedule", "adds": 1e6}],
            "truth": truth(fault, "flux") | {"board": BOARD, "first": {"stage": "schedule"}}}  # fmt: skip


@pytest.fixture
def played():
    load()
    asked = []

    def play(level, seed, done, said):
        asked.append((level, seed, tuple(done)))
        return round_of()

    practice = Practice("easy", 7, play=play)
    practice.rounds = asked
    return practice


def test_every_bug_has_a_level_and_every_level_many():
    load()
    levels = [level_of(fault) for fault in FAULTS]
    assert all(levels.count(level) >= 15 for level in LEVELS) and level_of("no such fault") is None


def test_a_seed_draws_the_same_bug_again_and_none_twice():
    load()
    first = drawn("easy", 3, 0)
    assert drawn("easy", 3, 0) == first and first.side == "candidate" and level_of(first.id) == "easy"
    assert drawn("easy", 3, 0, (first.id,)).id != first.id
    assert len({drawn("hard", seed, 0).id for seed in range(12)}) > 6


def test_the_page_is_told_nothing_before_the_guess(played):
    text = json.dumps({key: value for key, value in played.data.items() if key != "causes"}) + played.still + played.words
    assert "shift-constant" not in text and played.data["answer"] is None
    assert "shift-constant" not in repr(played)


def test_a_right_guess_counts_three_and_a_hint_costs_one(played):
    played.asked({"what": "hint"})
    assert played.data["hint"][0]["adds"] == 1e6
    played.asked({"what": "guess", "value": {"place": "schedule", "cause": "shift-constant"}})
    assert played.score == {"points": 2, "possible": 3, "rounds": 1}
    assert played.data["answer"]["id"] == "shift-constant" and "inject" not in played.data["answer"]["code"].split("(")[0]


def test_the_next_round_draws_another_bug_and_keeps_the_score(played):
    played.asked({"what": "guess", "value": {"place": "vae", "cause": "velocity-sign"}})
    played.asked({"what": "guess", "value": {"place": "schedule", "cause": "shift-constant"}})  # answered is answered
    played.asked({"what": "next", "value": "hard"})
    assert [(level, done) for level, _, done in played.rounds] == [("easy", ()), ("hard", ("shift-constant",))]
    assert played.rounds[0][1] != played.rounds[1][1] and played.data["round"] == 2 and played.data["answer"] is None
    assert played.score == {"points": 0, "possible": 3, "rounds": 1}


def test_a_cause_that_tensors_cannot_tell_from_the_planted_one_counts():
    load()
    told = round_of("saved-preset-drops-parameter")["truth"]
    assert judged(told, "", "guidance-scale")["points"] == 2 and judged(told, told["stages"][0], "x")["points"] == 1


def test_a_guess_from_code_is_checked_and_answered(played):
    assert "Which stage" in played.answer()
    with pytest.raises(Trouble, match="'schedul': no such stage. Did you mean 'schedule'"):
        played.answer("schedul", "shift-constant")
    with pytest.raises(Trouble, match="'shift-constnt': no such cause. Did you mean 'shift-constant'"):
        played.answer("schedule", "shift-constnt")
    assert played.answer("schedule", "shift-constant").startswith("Found: place and cause are right. Planted was shift-constant")
    with pytest.raises(Trouble, match="answered already"):
        played.answer("schedule", "shift-constant")


def test_a_round_that_cannot_be_prepared_is_told(played):
    def broken(*_):
        raise Trouble("no round came about")

    played._play, told = broken, []
    played.tell = lambda text, **how: told.append((text, how))
    played.asked({"what": "next", "value": "easy"})
    assert told[-1][1] == {"failed": True} and "no round came about" in told[-1][0]


@pytest.mark.slow
def test_a_round_holds_what_is_shown_the_hint_and_the_truth(tmp_path, capsys):
    assert main(["easy", "2", str(tmp_path / "round.json")]) == 0
    found = json.loads((tmp_path / "round.json").read_text())
    told = found["truth"]
    assert level_of(told["id"]) == "easy" and told["first"] and told["board"]["verdict"] == "different"
    assert told["id"] not in json.dumps(found["shown"]) and found["shown"]["pictures"]["frames"]
    assert any(entry["adds"] for entry in found["hint"])
    assert not any(probe in capsys.readouterr().out for probe in told["board"]["probes"])  # progress gives no place away


def test_the_notebook_has_typed_parameters_and_keeps_no_output():
    code = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    names = [node.target.id for node in ast.parse(code[0].source).body]
    assert code[0].metadata.tags == ["parameters"] and names == ["level", "seed", "place", "cause"]
    assert not any(cell.outputs for cell in code)
