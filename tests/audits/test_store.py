"""A stored study answers as the study that was stored, and runs its sides only when asked to."""

import pytest

from whydiff.audits.table import run_audits
from whydiff.engine.store import load_or_make, load_study, save_study
from whydiff.errors import Trouble


def test_a_stored_study_gives_the_same_answers(port, tmp_path):
    save_study(port, tmp_path)
    again = load_study(tmp_path)
    assert again.rows == port.rows and again.added == port.added
    assert again.verdict.to_dict() == port.verdict.to_dict()
    assert [a.words() for a in run_audits(again)] == [a.words() for a in run_audits(port)]


def test_loading_loads_no_side(port, tmp_path):
    save_study(port, tmp_path)
    said = []
    study = load_study(tmp_path, progress=said.append)
    assert said == []
    assert study.lab.sides["candidate"].components and said == ["loading candidate"]


def test_a_study_is_made_where_none_is_stored_and_read_where_one_is(toy):
    made = load_or_make("toy.yaml", "kept")
    read = load_or_make("toy.yaml", "kept")
    assert made.verdict.to_dict() == read.verdict.to_dict() and read.lab.runs == 0


def test_the_study_of_another_case_is_refused(port, tmp_path):
    save_study(port, tmp_path)
    with pytest.raises(Trouble, match="is the study of flux_port, not of flux_rope"):
        load_study(tmp_path, "data/cases/flux_rope.yaml")
    with pytest.raises(Trouble, match="leave study_from empty"):
        load_study(tmp_path / "nowhere")
