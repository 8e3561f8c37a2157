"""Exhibits of a small study: everything lies in them, nothing in them can become markup, and without a kernel's ear they are static."""

import json
import re

import nbformat
import pytest
import torch

from whydiff.engine.api import study
from whydiff.errors import Trouble
from whydiff.notebooks import own_kernel
from whydiff.widgets import compare_pictures, explorer, steps_player
from whydiff.widgets.board import board
from whydiff.widgets.exhibit import VIEW, Exhibit, script
from whydiff.widgets.pictures import pair
from whydiff.widgets.steps import preview


@pytest.fixture
def studied(toy):
    return study("toy.yaml", overrides={"candidate.build.noise_scale": 2.0})


def test_the_board_marks_the_first_divergence_and_shows_each_cause_at_its_stage(studied):
    data = board(studied)
    stages = {entry["stage"]: entry for entry in data["stages"]}
    assert data["first"]["probe"] == "initial_noise" and stages["rng_noise"]["state"] in ("cause", "unexplained")
    assert stages["rng_noise"]["times"] > 1e5 and stages["schedule"]["times"] == 0
    assert len(data["probes"]["latents"]["places"]) == 3 and data["probes"]["latents"]["stage"] == "scheduler_step"
    assert data["probes"]["sigmas"]["places"][0]["kind"] == "curve"
    names = [name for name, _ in data["probes"]["latents"]["places"][0]["figures"]]
    assert {"difference, whole runs", "noise floor", "correlation", "added on equal inputs"} <= set(names)


def test_a_blind_board_tells_nothing_that_an_experiment_found(studied):
    text = json.dumps(board(studied, blind=True))
    assert studied.verdict.causes or studied.verdict.unexplained
    assert not any(cause.id in text or cause.statement in text for cause in studied.verdict.causes)
    assert '"first": null' in text and "added" not in re.sub(r'"(adds|addedTimes)"', "", text)


def test_everything_is_json_and_small(studied):
    for exhibit in (compare_pictures(studied), steps_player(studied), explorer(studied)):
        json.dumps(exhibit.data, allow_nan=False)
        assert len(exhibit.html()) < 500_000


def test_names_and_words_of_a_case_stay_text(studied):
    studied.case.candidate.name = "</script><img src=x onerror=alert(1)>"
    for exhibit in (compare_pictures(studied), explorer(studied)):
        assert "<img src=x" not in exhibit.html() and "</script><img" not in exhibit.page()


def test_pictures_of_two_sizes_are_shown_side_by_side_with_the_reason():
    data = pair({"reference": torch.rand(1, 8, 12, 3), "candidate": torch.rand(1, 12, 8, 3)})
    assert data["why"] == "The pictures have different sizes: 12 × 8 pixels against 8 × 12 pixels."
    assert data["frames"][0]["reference"] and data["frames"][0]["candidate"] and data["frames"][0]["difference"] is None


def test_a_missing_picture_and_a_large_one_are_no_trouble():
    assert pair({"reference": None, "candidate": None})["why"] == "No picture was recorded."
    data = pair({"reference": torch.rand(1, 900, 1200, 3), "candidate": None})
    assert data["frames"][0]["candidate"] is None and len(data["frames"][0]["reference"]) < 400_000
    assert len(pair({role: torch.rand(1, 30, 8, 8, 3) for role in ("reference", "candidate")})["frames"]) == 6


def test_steps_have_a_scale_and_a_picture_without_scripts(studied):
    exhibit = steps_player(studied)
    assert [item["step"] for item in exhibit.data["items"]] == [0, 1, 2]
    assert exhibit.still.count("<img") == 3
    assert "No decoded_frames were recorded" in steps_player(studied, "decoded_frames").still


def test_a_preview_is_made_only_where_the_picture_follows_the_latents(studied):
    assert preview(studied) is None  # the toy records no latents of a decoder
    latents = torch.randn(1, 4, 12, 16)
    traces = type("Trace", (dict,), {})
    for mix, found in ((torch.rand(4, 3) / 8, True), (None, False)):
        image = torch.rand(1, 24, 32, 3) if mix is None else (0.5 + latents.movedim(1, -1) @ mix).clamp(0, 1)
        held = type("Study", (), {"reference": traces(vae_latents=latents, image=image)})
        assert (preview(held) is not None) is found


def test_a_case_that_fails_is_told_and_the_one_before_stays(studied, toy):
    (toy / "broken.yaml").write_text("title: broken\nreference: {trace: nowhere}\ncandidate: {trace: nowhere}\n")
    (toy / "equal.yaml").write_text((toy / "toy.yaml").read_text())
    shown, told = explorer(studied, toy), []
    shown.tell = lambda text, **how: told.append((text, how))
    before = shown.data
    shown.asked({"what": "case", "value": "broken"})
    assert shown.data is before and told[-1][1] == {"failed": True} and "nowhere" in told[-1][0]
    shown.asked({"what": "case", "value": "equal"})
    assert shown.data["case"] == "equal" and shown.data["verdict"] != "different"
    assert any(how == {"busy": True} for _, how in told) and told[-1] == ("equal is diagnosed.", {})
    shown.asked({"what": "case", "value": "../elsewhere"})
    assert shown.data["case"] == "equal"


def test_whoever_runs_a_notebook_headless_gets_no_widget(tmp_path):
    from nbclient import NotebookClient

    cells = ["from whydiff.report import progress\nprogress.line()\nfrom tqdm.auto import tqdm\nlist(tqdm(range(2)));",
             "from whydiff.widgets.exhibit import Exhibit\nExhibit({'kind': 'steps'}, '<p>still</p>', 'words')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with own_kernel():
        NotebookClient(notebook, kernel_name="python3").execute()
    assert [list(output.data) for output in notebook.cells[0].outputs] == [["text/plain", "text/html"]]  # the line of progress
    [output] = notebook.cells[1].outputs
    assert output.data["text/html"].startswith('<div><div class="wd-still"><p>still</p></div><iframe') and output.data["text/plain"] == "words"
    assert VIEW not in output.data and "widgets" not in notebook.metadata


def test_an_exhibit_has_one_script_that_asks_nobody():
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\bimport\b.*from|fetch\(", script())
    assert script().count("export default") == 1


def test_a_practice_level_that_is_not_known_is_told():
    from whydiff.widgets.practice import Practice

    with pytest.raises(Trouble, match="'esy': unknown. Did you mean 'easy'"):
        Practice("esy")


def test_the_widget_takes_what_the_page_asks():
    class Asked(Exhibit):
        def asked(self, request):
            self.request = request

    exhibit = Asked({"kind": "steps", "items": []}, "", "words")
    exhibit.widget.asked = {"what": "case", "value": "x", "number": 1}
    exhibit.tell("busy", busy=True)
    exhibit.show({"kind": "steps", "items": [], "probe": "other"})
    assert exhibit.request["value"] == "x" and exhibit.widget.told["busy"] and exhibit.widget.data["probe"] == "other"
    exhibit.widget.close()
