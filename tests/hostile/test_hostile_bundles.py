"""A bundle from an issue tracker is read like any other evidence; what it would run, it runs only with --trust."""

import json
import zipfile

import pytest
import torch

from whydiff import Trace
from whydiff.bundle import bundle
from whydiff.cli import run
from whydiff.errors import Trouble
from whydiff.evidence.case import load_case
from whydiff.evidence.case_bundle import case_file
from whydiff.evidence.traces.trace import Event
from whydiff.places import Place

CASE = "reference: {trace: traces/reference}\ncandidate: {trace: traces/candidate}\n"
SIDES = """
import pathlib, torch, whydiff
pathlib.Path(__file__).with_name("ran").touch()
def side():
    def run(seed=0):
        return whydiff.tap("image", torch.ones(1, 4, 4, 3) * 0.5)
    return run
"""


def zipped(path, case, **more):
    traces = {}
    for role, value in (("reference", 1.0), ("candidate", 2.0)):
        made = Trace()
        made.add(Event(Place("latents", 0), torch.full((2, 3), value)))
        made.save(path.parent / f"{path.stem}-{role}")
        traces |= {f"traces/{role}/{p.name}": p.read_bytes() for p in (path.parent / f"{path.stem}-{role}").iterdir()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"case.yaml": case, **traces, **more}.items():
            archive.writestr(name, data)
    return path


def test_a_bundle_is_diagnosed_as_it_came(tmp_path, capsys):
    assert run(["diagnose", str(zipped(tmp_path / "issue.zip", CASE)), "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["case"] == "issue" and verdict["first_divergence"]["probe"] == "latents"


@pytest.mark.parametrize("live", ["{entry: 'sides.py:side'}", "{entry: 'sides.py:side', python: ./python}", "{entry: '/bin/sides.py:side'}"])
@pytest.mark.parametrize("role", ["reference", "candidate"])
def test_code_in_a_bundle_is_not_run(role, live, tmp_path, capsys):
    case = CASE.replace(f"{role}: {{", f"{role}: {{live: {live}, ")
    path = zipped(tmp_path / "issue.zip", case, **{"sides.py": SIDES, "python": "#!/bin/sh\ntouch ran\n"})
    for command in (["diagnose"], ["diagnose", "--dry-run"], ["investigate", "--out", str(tmp_path / "out")]):
        assert run([command[0], str(path), *command[1:]]) == 2
        told = capsys.readouterr().err
        assert f"{role}.live would run code that came with a bundle" in told and "--trust" in told
    assert not list(tmp_path.rglob("ran"))


def test_a_bundle_unpacked_by_hand_is_one_still(tmp_path, capsys):
    case = CASE.replace("{trace: traces/r", "{live: {entry: 'sides.py:side'}, trace: traces/r")
    marks = dict.fromkeys(["verdict.json", "settings.json", "environment.json"], "{}")
    with zipfile.ZipFile(zipped(tmp_path / "issue.zip", case, **marks, **{"sides.py": SIDES})) as archive:
        archive.extractall(tmp_path / "there")
    assert run(["diagnose", str(tmp_path / "there" / "case.yaml")]) == 2
    assert "--trust" in capsys.readouterr().err and not list(tmp_path.rglob("ran"))


def test_trusted_code_in_a_bundle_runs(tmp_path, capsys):
    case = "reference: {live: {entry: 'sides.py:side', call: {seed: 0}}}\ncandidate: {live: {entry: 'sides.py:side', call: {seed: 0}}}\n"
    assert run(["diagnose", str(zipped(tmp_path / "issue.zip", case, **{"sides.py": SIDES})), "--trust"]) == 2
    assert "internal error" not in capsys.readouterr().err  # vacuous: both sides are one function
    with case_file(tmp_path / "issue.zip") as path, pytest.raises(Trouble, match="would run code"):
        load_case(path)  # trust ends with the command


@pytest.mark.parametrize("key", ["trace: ../{}", "trace: /{}", "image: ../{}", "trace: traces/reference, injected: [../{}]"])
def test_what_a_bundle_names_lies_in_it(key, tmp_path, capsys):
    made = Trace()
    made.add(Event(Place("latents", 0), torch.ones(2, 3)))
    made.save(tmp_path / "mine")
    case = CASE.replace("candidate: {trace: traces/candidate}", "candidate: {" + key.format(str(tmp_path / "mine").lstrip("/")) + "}")
    assert run(["diagnose", str(zipped(tmp_path / "issue.zip", case))]) == 2
    assert "lies outside the bundle" in capsys.readouterr().err


@pytest.mark.parametrize("files", [{"a.yaml": CASE, "b.yaml": CASE}, {"a.txt": CASE}, {"c.yaml": "[1"}, {"c.yaml": CASE, "../x": ""}])
def test_what_is_no_bundle_is_one_line(files, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "issue.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert run(["diagnose", str(tmp_path / "issue.zip")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path.parent / "x").exists()


def test_packing_a_strangers_report_runs_nothing_of_it(tmp_path, monkeypatch):
    """A report's study names the code of live sides, and where its traces lie."""
    (tmp_path / "sides.py").write_text(SIDES)
    (tmp_path / "case.yaml").write_text("reference: {trace: traces/reference}\ncandidate: {trace: traces/candidate}\n")
    with zipfile.ZipFile(zipped(tmp_path / "issue.zip", CASE)) as archive:
        archive.extractall(tmp_path)
    from whydiff.engine.api import study
    from whydiff.engine.store import save_study

    made = study(load_case(tmp_path / "case.yaml"))
    made.save(tmp_path / "report")
    save_study(made, tmp_path / "report" / "study")
    path = tmp_path / "report" / "study" / "study.json"
    data = json.loads(path.read_text())
    data["case"]["reference"]["live"] = {"entry": f"{tmp_path}/sides.py:side"}
    path.write_text(json.dumps(data))
    assert bundle(tmp_path / "report", tmp_path / "packed.zip")
    assert not (tmp_path / "ran").exists()
    data["traces"]["reference"] = str(tmp_path / "traces" / "reference")
    path.write_text(json.dumps(data))
    with pytest.raises(Trouble, match="lies elsewhere"):
        bundle(tmp_path / "report", tmp_path / "packed.zip")


@pytest.mark.parametrize(("key", "value"), [("causes", [{"id": 3}]), ("causes", {}), ("unexplained", [1]), ("verdict", "fine"), ("notes", "x"),
                                            ("first_divergence", []), ("summary", None)])  # fmt: skip
def test_a_verdict_that_holds_something_else_is_named(key, value, tmp_path):
    (tmp_path / "verdict.json").write_text(json.dumps({"verdict": "different", "summary": "x"} | {key: value}))
    with pytest.raises(Trouble, match="not a verdict that can be read"):
        bundle(tmp_path, tmp_path / "b.zip")
