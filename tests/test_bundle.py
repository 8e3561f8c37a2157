"""The zip that one attaches to an issue: complete, good to diagnose again, and silent about the machine that it comes from."""

import json
import os
import pathlib
import tempfile
import zipfile

import pytest
import torch

import whydiff
from whydiff.bundle import bundle
from whydiff.cli import run
from whydiff.errors import Trouble
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place
from whydiff.scrubbed import Scrubber

FILES = {"verdict.json", "report.html", "report.md", "settings.json", "environment.json", "case.yaml",
         "traces/reference/trace.jsonl", "traces/candidate/trace.jsonl"}  # fmt: skip


def recorded(folder, shift, planted=""):
    """A run of a schedule and four large tensors; `planted` stands wherever a recorder writes free text."""
    trace = Trace(producer={"name": f"made in {planted}", "package": "p", "entry": planted}, settings={"shift": shift, "checkpoint": planted},
                  environment={"python": "3.11.7", "kernel": planted, "variables": {"OMP_NUM_THREADS": "1"}})  # fmt: skip
    grid = torch.linspace(1, 0.25, 4)
    trace.add(Event(Place("sigmas"), torch.cat([shift * grid / (1 + (shift - 1) * grid), torch.zeros(1)])))
    for step in range(4):
        values = torch.randn(1, 16, 24, 24, generator=torch.Generator().manual_seed(step))
        trace.add(Event(Place("latents", step), values * (1 + step * (shift - 1)), component=None))
    trace.save(folder)


@pytest.fixture
def case(tmp_path):
    """`case(planted)` -> a case file of two recordings, the candidate's with another shift."""

    def made(planted=""):
        recorded(tmp_path / "one", 3.0, planted)
        recorded(tmp_path / "two", 5.0, planted + " too")
        path = tmp_path / "case.yaml"
        path.write_text(json.dumps({"question": "Why?", "reference": {"name": "one", "trace": "one", "settings": {"weights": planted + "/a"}},
                                    "candidate": {"name": "two", "trace": "two", "settings": {"weights": planted + "/b"}}}))  # fmt: skip
        return path

    return made


def unpacked(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if not name.endswith(".safetensors")}


def test_a_case_is_diagnosed_and_packed_with_what_an_issue_needs(case, tmp_path, capsys):
    path = case()
    assert run(["bundle", str(path), "--out", str(tmp_path / "b.zip")]) == 0
    held = unpacked(tmp_path / "b.zip")
    assert held.keys() >= FILES
    text = held["report.md"]
    for words in ("differ, first at schedule / sigmas", "`shift-constant`", "% explained", "| `shift` | 3.0 | 5.0 |", "whydiff diagnose case.yaml"):
        assert words in text
    assert json.loads(held["settings.json"])["candidate"]["shift"]["value"] == 5.0
    assert json.loads(held["environment.json"])["reference"] == {"python": "3.11.7", "kernel": ""}
    shown = capsys.readouterr().out
    assert "report.md" in shown and "traces/reference/" in shown and " kB" in shown


def test_a_recording_that_does_not_say_where_it_was_made_is_given_no_environment(tmp_path):
    for name in ("one", "two"):
        trace = Trace()
        trace.add(Event(Place("sigmas"), torch.rand(4)))
        trace.save(tmp_path / name)
    (tmp_path / "case.yaml").write_text(json.dumps({"reference": {"trace": "one"}, "candidate": {"trace": "two"}}))
    run(["diagnose", str(tmp_path / "case.yaml"), "--out", str(tmp_path / "report")])
    for number, source in enumerate(("case.yaml", "report")):
        bundle(tmp_path / source, tmp_path / f"{number}.zip")
        held = unpacked(tmp_path / f"{number}.zip")
        assert json.loads(held["environment.json"]) == {"reference": {}, "candidate": {}} and "| torch |" not in held["report.md"]


def test_large_tensors_are_in_it_as_fingerprints_alone(case, tmp_path):
    bundle(case(), tmp_path / "b.zip")
    lines = [json.loads(line) for line in unpacked(tmp_path / "b.zip")["traces/candidate/trace.jsonl"].splitlines()]
    latents = [line for line in lines if line.get("probe") == "latents"]
    assert len(latents) == 4 and all("sketch" in line and "file" not in line for line in latents)


def test_nothing_of_the_machine_and_its_environment_is_in_it(case, tmp_path, monkeypatch):
    home = tmp_path / "homes" / "ann example"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "annexample")
    monkeypatch.setenv("SOME_TOKEN", 'hf_"secret" & <more>')
    monkeypatch.chdir(tmp_path)
    values = [value for value in os.environ.values() if len(value.strip()) > 6]
    places = [str(home), str(home / "x.py"), os.getcwd(), tempfile.gettempdir() + "/here", "/data/shared/models/flux", r"C:\Users\ann\a.py"]
    planted = " ; ".join([*values, *places, "annexample"])
    bundle(case(planted), tmp_path / "b.zip")
    for name, text in unpacked(tmp_path / "b.zip").items():
        found = [value for value in (*values, *places, "annexample", "hf_", "OMP_NUM_THREADS", "/data/shared", "Users") if value in text]
        assert not found, f"{name}: {found[0]!r}"


def test_the_prompt_stays_though_a_variable_holds_it_too(monkeypatch):
    monkeypatch.setenv("PROMPT", "two blue squares")
    assert Scrubber(["two blue squares on black"]).text("two blue squares") == "two blue squares"
    assert Scrubber().text("two blue squares") == "[removed]"


def test_what_looks_like_a_path_and_is_none_stays():
    for words in ("model_input/timestep", "linspace(1, 1/N, N)", "https://example.org/a/b", "<b>a</b></i>", "4·C/2/3", "src/flux/sampling.py:289"):
        assert Scrubber().text(words) == words


def test_a_page_keeps_its_markup_its_style_and_its_pictures(monkeypatch):
    monkeypatch.setenv("TOKEN", "a<secret>'s")
    page = ('<style>p > b {}</style><img src="data:image/png;base64,ab/cd/ef/gh==" alt="%s"><p title="%s">1 &lt; 2'
            '<script>if (a < b && c) {}</script>%s</p>')  # fmt: skip
    secret = "a&lt;secret&gt;&#39;s"
    assert Scrubber().page(page % (secret, secret, secret)) == page % ("[removed]", "[removed]", "[removed]")


def test_an_unpacked_bundle_is_diagnosed_and_compared_again(case, tmp_path, capsys):
    bundle(case(), tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "there")
    there = tmp_path / "there"
    assert run(["diagnose", str(there / "case.yaml")]) == 1
    assert "shift-constant" in capsys.readouterr().out
    assert run(["compare", str(there / "traces" / "reference"), str(there / "traces" / "candidate")]) == 1
    assert "first at sigmas" in capsys.readouterr().out


def test_the_folder_of_diagnose_is_packed_as_it_is(case, tmp_path):
    assert run(["diagnose", str(case()), "--out", str(tmp_path / "report")]) == 1
    bundle(tmp_path / "report", tmp_path / "b.zip")
    held = unpacked(tmp_path / "b.zip")
    assert held.keys() == FILES - {"report.html"}  # there was none to pack
    ours, packed = json.loads((tmp_path / "report" / "verdict.json").read_text()), json.loads(held["verdict.json"])
    assert packed == ours


@pytest.mark.parametrize("source, out, words", [("nothing.yaml", "b.zip", "no such case"), (".", "b.zip", "holds no verdict.json"),
                                                ("case.yaml", "b.tar", "ends in .zip"), ("case.yaml", "no/b.zip", "no folder no")])  # fmt: skip
def test_bad_input_is_one_clear_line_and_leaves_nothing(source, out, words, case, tmp_path, monkeypatch):
    case()
    monkeypatch.chdir(tmp_path)
    before = set(pathlib.Path().iterdir())
    with pytest.raises(Trouble, match=words):
        bundle(source, out)
    assert set(pathlib.Path().iterdir()) == before


def test_the_report_s_own_script_stays_as_its_policy_names_it(monkeypatch):
    monkeypatch.setenv("SECRET", "pointerdown")
    own = (pathlib.Path(whydiff.__file__).parent / "report" / "report.js").read_text()
    assert Scrubber().page(f"<script>{own}</script><script>pointerdown</script>") == f"<script>{own}</script><script>[removed]</script>"
