"""Notebooks run headless: strictly parameterised, told apart when they fail, published as a whole."""

import json
import sys

import pytest

from whydiff.errors import Trouble
from whydiff.headless import investigate, published
from whydiff.notebooks import Notebook, check_parameters, choose, own_kernel, run_one

PARAMETERS = "case = ''  # the case\nout = ''  # where results go\nlevels: int = 3  # an own parameter"
GOOD = """
import json, pathlib, sys
audits = pathlib.Path(out) / "audits"; audits.mkdir(exist_ok=True)
(audits / "good.json").write_text(json.dumps({"name": "good", "verdict": "same", "findings": [f"{levels} levels", case, sys.executable]}))
"""


def write_notebook(folder, name, *cells, parameters=PARAMETERS):
    def cell(source, **metadata):
        return {"cell_type": "code", "id": f"c{len(source)}", "metadata": metadata, "source": source, "outputs": [],
                "execution_count": None}  # fmt: skip

    folder.mkdir(exist_ok=True)
    content = {"cells": [cell(parameters, tags=["parameters"]), *map(cell, cells)], "nbformat": 4, "nbformat_minor": 5,
               "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def workbook(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYDIFF_KERNELS", "fresh")  # these notebooks import nothing; forked ones are in tests/kernels
    folder = tmp_path / "book"
    write_notebook(folder, "00_good.ipynb", GOOD)
    write_notebook(folder, "01_bad.ipynb", "1 + 1", "raise ValueError('too many\\nlevels')", parameters="out = ''")
    return folder


def test_an_investigation_writes_everything_and_repeats_nothing(toy, workbook):
    lines = []
    found = investigate("toy.yaml", parameters={"levels": 5}, overrides={"candidate.build.noise_scale": 2.0}, only=["good"],
                        said=lines.append, folder=workbook)  # fmt: skip
    folder = toy / "reports" / "toy"
    assert found.failures == [] and found.report.resolve() == folder / "report.html"
    verdict = json.loads((folder / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["case"], [a["name"] for a in verdict["audits"]]) == ("different", "toy", ["good"])
    levels, case, interpreter = verdict["audits"][0]["findings"]
    assert (levels, interpreter) == ("5 levels", sys.executable)
    assert case == str(folder / "toy.yaml")  # the case with its override, at the place where it now lies
    assert "noise_scale: 2.0" in (folder / "toy.yaml").read_text()
    assert str(toy / "sides.py") + ":port" in (folder / "toy.yaml").read_text()
    assert (folder / "traces" / "reference" / "trace.jsonl").is_file() and (folder / "traces" / "candidate").is_dir()
    executed = (folder / "notebooks" / "00_good.ipynb").read_text()
    assert ".part" not in executed and str(folder) in executed
    assert "5 levels" in (folder / "report.html").read_text()
    assert sum("loading reference" in line for line in lines) == 1
    assert sorted(p.name for p in (toy / "reports").iterdir()) == ["toy"]


def test_a_failed_notebook_is_named_with_its_cell_and_the_others_still_run(toy, workbook):
    found = investigate("toy.yaml", out="out", folder=workbook, jobs=2)
    assert found.failures == ["01_bad.ipynb, cell [4]: ValueError: too many levels"]
    verdict = json.loads((toy / "out" / "verdict.json").read_text())
    assert [audit["name"] for audit in verdict["audits"]] == ["good"]
    assert "01_bad.ipynb, cell [4]" in (toy / "out" / "report.html").read_text()
    assert len(found.notebooks) == 2


def test_a_dead_kernel_and_a_timeout_are_told_apart(tmp_path):
    dead = write_notebook(tmp_path, "02_dead.ipynb", "import os; os.kill(os.getpid(), 9)")
    slow = write_notebook(tmp_path, "03_slow.ipynb", "import time; time.sleep(60)")
    with own_kernel():
        assert run_one(str(dead), str(tmp_path), {}, 60).startswith("02_dead.ipynb, cell [2]: the kernel died")
        assert "03_slow.ipynb, cell [2]: timeout" in run_one(str(slow), str(tmp_path), {}, 2)


def test_a_notebook_about_a_file_is_skipped_with_one_line_where_there_is_none(toy, workbook):
    write_notebook(workbook, "10_step_timing.ipynb", GOOD.replace('"good', '"step_timing').replace("case,", "log + log_reference,"),
                   parameters=PARAMETERS + "\nlog = 'an example'  # the log\nlog_reference = 'another'  # the other")  # fmt: skip
    lines = []
    found = investigate("toy.yaml", out="out", only=[], said=lines.append, folder=workbook)
    assert "10_step_timing is skipped: it needs a file: -p log=FILE" in lines
    assert [notebook.name for notebook in found.notebooks] == ["00_good.ipynb", "01_bad.ipynb"]
    (toy / "run.log").write_text("1 2 3")
    found = investigate("toy.yaml", out="out", parameters={"log": "run.log"}, only=["step_timing"], folder=workbook)
    assert found.verdict.audits[0]["findings"][1] == str(toy / "run.log")  # notebooks run in a folder of their own
    with pytest.raises(Trouble, match="needs a file: -p log=FILE"):
        investigate("toy.yaml", only=["step_timing"], folder=workbook)
    with pytest.raises(Trouble, match="-p log=away.log: there is no such file"):
        investigate("toy.yaml", parameters={"log": "away.log"}, folder=workbook)


def test_notebooks_are_named_with_or_without_number(workbook):
    for name in ("good", "00_good", "00_good.ipynb"):
        assert [notebook.name for notebook in choose([name], workbook)] == ["good"]
    assert [notebook.name for notebook in choose(["bad", "good"], workbook)] == ["good", "bad"]
    with pytest.raises(Trouble, match="goood.*Did you mean 'good'.*Known: good, bad"):
        choose(["goood"], workbook)


def test_parameters_are_read_as_code_whatever_their_annotation(tmp_path):
    source = "a = 1\nb: int | None = None\nc: 'list[str]' = []\nd = e = 2\n# f = 3\nprint('not a parameter')"
    assert Notebook(write_notebook(tmp_path, "x.ipynb", parameters=source)).parameters() == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(("name", "value", "words"), [
    ("level", 1, "Did you mean 'levels'"), ("levels", (1, 2), "a tuple"), ("levels", {1: 2}, "key 1"),
    ("levels", float("nan"), "a float"), ("out", "x", "whydiff itself"),
])  # fmt: skip
def test_a_parameter_that_would_not_arrive_is_refused(workbook, name, value, words):
    with pytest.raises(Trouble, match=words):
        check_parameters(choose([], workbook), {name: value}, reserved=("case", "out"))


def test_a_draft_takes_the_place_of_the_old_report_only_when_whole(tmp_path):
    target = tmp_path / "report"
    target.mkdir()
    (target / "verdict.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), published(target) as draft:
        (draft / "verdict.json").write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["report"] and (target / "verdict.json").read_text() == "old"
    with published(target) as draft:
        (draft / "verdict.json").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["report"] and (target / "verdict.json").read_text() == "new"


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("precious")
    with pytest.raises(Trouble, match="did not write"), published(tmp_path / "home"):
        pass
    assert (tmp_path / "home" / "thesis.tex").read_text() == "precious"
