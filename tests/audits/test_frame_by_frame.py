"""The small world model: each difference alone is found, with its first frame; what cannot drift is called vacuous."""

import pathlib

import pytest

from whydiff.audits import drift, fingerprints, frame_noise, frames, switches
from whydiff.errors import Trouble
from whydiff.formulas.frame_memory import Window

pytestmark = pytest.mark.slow  # one reference and 20 candidates are run

CASES = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases"
CASE, OFFICIAL = CASES / "waypoint.yaml", {"candidate.build.like": "official"}
SWITCHES = switches.read_switches(CASES / "waypoint" / "switches.yaml")
# (first frame, where the engine finds it first) of each switch; None: the sides agree
FOUND = {
    "sigmas: 3 steps": (0, "sigmas"),
    "sigmas: digits of the README": (None, None),
    "sigmas kept in float32": (0, "sigmas"),
    "frequency table rounded to bfloat16": (0, "transformer/sigma_embedding"),
    "noise seeded per frame": (1, "initial_noise"),
    "T5 class for UMT5 weights": (0, "prompt_embeds"),
    "prompt padding masked": (0, "model_input/encoder_attention_mask"),
    "prompt mask cast to bfloat16": (None, None),
    "memory: every frame": (2, "model_input/visible_frames"),
    "memory: none": (1, "model_input/visible_frames"),
    "memory written while denoising": (0, "noise_pred_text"),
    "memory written at the last sigma": (1, "model_input/timestep"),
    "control index clamped": (8, "model_input/control"),
    "latents pulled to frame 0": (1, "kept_latents"),
    "latents kept in bfloat16": (0, "latents"),
    "RMSNorm in bfloat16, eps 1e-6": (0, "transformer/blocks.0.norm"),
    "VAE scale 1, shift 0": (None, None),
    "VAE scale 1.3": (0, "vae_latents"),
}


pytestmark = pytest.mark.thorough  # the notebook of Waypoint, which make test runs, holds the same up


@pytest.fixture(scope="module")
def studies():
    builds = switches.read_switches(CASES / "waypoint" / "builds.yaml")
    return switches.each_alone(CASE, SWITCHES | builds, OFFICIAL)


def test_every_switch_is_expected_and_tried():
    assert list(FOUND) == list(SWITCHES)


@pytest.mark.parametrize("name", FOUND)
def test_each_difference_alone_is_found_with_its_first_frame(studies, name):
    first, place = FOUND[name]
    assert frames.first_frame(studies[name]) == first
    entry = studies[name].verdict.first_divergence
    assert (entry is None) == (place is None)
    if place:
        assert place in (entry["probe"], entry["module"])


def test_a_frame_before_the_first_one_is_equal_to_the_last_bit(studies):
    series = frames.by_frame(studies["memory: every frame"])
    assert [entry.difference for entry in series[:2]] == [0, 0] and len(series) == 10


def test_windows_are_read_off_a_run(studies):
    study = studies["port of the note"]
    assert frames.windows(study.reference) == [Window(8, 2), *[Window(4)] * 3, Window(8, 2)]
    assert frames.windows(study.candidate) == [Window()] * 5
    assert frames.windows(studies["memory: none"].candidate) == [Window(1)] * 5


def test_an_input_that_stops_changing_is_said(studies):
    words = frames.audit(studies["control index clamped"]).words()
    assert "the candidate's model_input/control stays what it was in frame 7 from frame 8 on" in words
    assert "stays what it was" not in frames.audit(studies["memory: none"]).words()


def test_the_wrong_class_of_the_text_encoder_drops_23_tensors(studies):
    study = studies["T5 class for UMT5 weights"]
    assert len(study.lab.sides["candidate"].subject.dropped) == 23
    assert [cause.id for cause in study.verdict.causes] == ["relative-bias-sharing"]


def test_a_side_without_memory_makes_the_question_of_drift_vacuous(studies):
    study = studies["the note's script"]
    official, script = study.lab.sides["reference"], study.lab.sides["candidate"]
    both = drift.audit({"official": official, "script": script}, 1)
    assert both.verdict == "vacuous"
    moved = both.exhibits["influence"]
    assert moved["script"][0] == 0 and moved["script"][1] > 0 and not any(moved["script"][2:])
    assert moved["official"][0] == 0 and all(moved["official"][1:])
    assert drift.audit({"official": official}, 1).verdict == "different"


def test_a_frame_that_is_not_made_is_said_in_one_line(studies):
    with pytest.raises(Trouble, match="frame 99"):
        drift.influence(studies["memory: none"].lab.sides["candidate"], 99)


def test_the_rule_of_frame_noise_is_found_and_explains_all_that_differs(studies):
    study = frame_noise.differing(studies)
    assert study is studies["noise seeded per frame"]
    words = frame_noise.audit(study).words()
    assert "the reference draws the noise of its frames by this rule: one stream" in words
    assert "the candidate draws the noise of its frames by this rule: seed + index of the frame" in words
    assert "9 of 10 draws of seed 1 are draws of seed 0" in words and "nothing is left of the difference" in words


def test_with_another_difference_beside_it_equal_noise_is_not_enough(studies):
    assert "still differs" in frame_noise.audit(studies["the note's script"]).words()


def test_the_verdict_follows_its_inputs(studies):
    alone = {name: studies[name] for name in FOUND}
    words = fingerprints.audit(alone, {"script": studies["the note's script"]}, None, "script").words()
    assert "script is not the reference" in words and "from frame 2 on: memory: every frame." in words
    assert "the engine finds each of these 15" in words
    assert "cannot blur: equal once both have one noise: noise seeded per frame." in words
    assert "changes what is shown, not how sharp it is: T5 class for UMT5 weights, prompt padding masked, control index clamped." in words
    fewer = {name: studies[name] for name in ("VAE scale 1, shift 0", "memory: none")}
    words = fingerprints.audit(fewer, {"script": studies["VAE scale 1, shift 0"]}, None, "script").words()
    assert "script is the reference" in words and "never: VAE scale 1, shift 0." in words and "frame 2" not in words


def test_held_controls_hide_a_clamped_index():
    study = switches.each_alone(CASE, {"clamped": {"control_chunk": 8}}, OFFICIAL | {f"{r}.call.held_key": True for r in ("reference", "candidate")})
    assert study["clamped"].verdict.agrees


def test_a_file_of_switches_that_is_none_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- flat\n")
    with pytest.raises(Trouble, match="expected"):
        switches.read_switches(tmp_path / "list.yaml")
    with pytest.raises(Trouble, match="no such file"):
        switches.read_switches(tmp_path / "none.yaml")
