"""Every audit asks a question and answers in one of six words; what holds for all of them is tested for all of them."""

import json
import pathlib

import pytest

from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.table import AUDITS, BY_NAME, chosen, run_audits
from whydiff.errors import Trouble
from whydiff.verdict import VERDICTS

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
every_audit = pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit.name)
of_a_study = pytest.mark.parametrize("audit", [audit for audit in AUDITS if not audit.files], ids=lambda audit: audit.name)


def answer(study, name: str) -> AuditResult:
    return BY_NAME[name].run(study)


def said(study, name: str) -> str:
    return answer(study, name).words()


@every_audit
def test_an_audit_asks_a_question_and_has_a_notebook(audit):
    assert audit.question.endswith("?")
    assert (NOTEBOOKS / f"{audit.notebook}.ipynb").is_file()


@every_audit
def test_an_audit_answers_in_one_of_six_words_and_in_sentences(audit, port, healthy):
    for study in (port, healthy):
        result = audit.run(study)
        assert result.name == audit.name
        assert result.verdict in VERDICTS
        assert result.findings and all(finding.endswith(".") and " " in finding for finding in result.findings)
        assert set(result.to_dict()) == {"name", "verdict", "findings"}
        assert result._repr_markdown_().startswith(f"**{result.verdict}**")
        assert all(len(row) == len(result.columns) for row in result.table)


@of_a_study
def test_no_audit_finds_a_difference_between_healthy_implementations(audit, healthy):
    assert audit.run(healthy).verdict in ("same", "within_noise")


@of_a_study
def test_a_vacuous_study_gives_vacuous_audits(audit, vacuous):
    assert audit.run(vacuous).verdict == "vacuous"


@pytest.mark.parametrize("audit", [audit for audit in AUDITS if audit.files], ids=lambda audit: audit.name)
def test_an_audit_of_files_without_them_says_what_to_give(audit, healthy):
    result = audit.run(healthy)
    assert result.verdict == "incomparable" and audit.files[0] in result.words()


@every_audit
def test_an_audit_gives_the_same_answer_twice(audit, port):
    assert audit.run(port).to_dict() == audit.run(port).to_dict()


def test_every_cause_is_found_by_an_audit_of_its_own_stage(port):
    different = {result.name for result in run_audits(port) if result.verdict == "different"}
    assert {"noise_equality", "schedule_math", "prompt_embedding_stats", "root_cause"} <= different
    assert not {"dimension_audit", "vae_round_trip", "model_state", "guidance_and_step"} & different


def test_a_cause_that_acts_elsewhere_is_mentioned_and_not_held_against_the_stage_where_it_is_seen(port):
    assert "timestep-scale-1000, which acts in schedule, is first seen here" in said(port, "guidance_and_step")


def test_guidance_that_is_too_small_is_found_where_it_acts(note):
    assert answer(note, "guidance_and_step").verdict == "different"
    assert "guidance-times-1000" in said(note, "guidance_and_step")


def test_the_noise_audit_names_both_recipes(port):
    words = said(port, "noise_equality")
    assert "from a cpu generator with seed 0" in words
    assert "from a cuda generator with seed 0" in words


def test_the_schedule_audit_reports_where_the_second_expert_takes_over(wan):
    result = answer(wan, "schedule_math")
    assert result.exhibits["switches"] == {"reference": 18, "candidate": 9}
    assert "on the reference the second expert takes over at step 18 of 27" in result.words()
    assert "on the candidate the second expert takes over at step 9 of 27" in result.words()


def test_the_schedule_audit_finds_the_ends_of_both_grids(port):
    words = said(port, "schedule_math")
    assert "the reference's sigmas are linspace(1, 1/N, N)" in words
    assert "the candidate's sigmas are linspace(1, 0.001, N)" in words


def test_the_dimension_audit_tells_landscape_from_portrait_and_names_what_nobody_specified(portrait, port):
    words = said(portrait, "dimension_audit")
    assert "landscape" in words and "portrait" in words and "height-width-swapped" in words
    assert "nobody specified guidance_scale" in said(port, "dimension_audit")


def test_weights_are_recognised_across_two_module_trees(healthy):
    result = answer(healthy, "model_state")
    assert all(pairing.complete for pairing in result.exhibits["pairings"].values())
    assert result.exhibits["pairings"]["transformer"].fused


def test_the_step_audit_recovers_the_sigma_differences_of_euler_steps(healthy):
    for updates in answer(healthy, "guidance_and_step").exhibits["updates"].values():
        assert len(updates) == 12
        assert all(update.left < 1e-4 and update.dt == pytest.approx(update.expected, rel=1e-3) for update in updates)


def test_the_guidance_scale_is_fitted_from_both_predictions(wan):
    assert "uncond + 4.0 · (cond − uncond)" in said(wan, "guidance_and_step")


def test_the_module_walk_ends_at_the_attention_that_lost_its_positions(rope, healthy):
    walk = answer(rope, "first_divergence").exhibits["modules"]
    assert walk.first is not None and "attn" in walk.first.reference and "attn" in walk.first.candidate
    assert answer(healthy, "first_divergence").exhibits["modules"].first is None


def test_the_decoder_is_acquitted_of_what_it_inherits(port):
    result = answer(port, "vae_round_trip")
    assert result.verdict in ("same", "within_noise")
    assert "inherited" in result.words()


def test_words_hold_no_measured_number():
    assert Sentence("noise_pred adds a difference", "0.31 relative").words == "noise_pred adds a difference."
    result = AuditResult("toy", "Why?", "same", (Sentence("all is well", "1e-7 relative"),))
    assert result.words() == "toy: same or within_noise\nall is well."
    assert result.to_dict()["findings"] == ["all is well (1e-7 relative)."]


def test_a_result_is_written_only_where_a_folder_is_named(tmp_path):
    result = AuditResult("toy", "Why?", "same", (Sentence("all is well"),))
    assert result.save("") is None
    path = result.save(str(tmp_path))
    assert path == tmp_path / "audits" / "toy.json"
    assert json.loads(path.read_text()) == {"name": "toy", "verdict": "same", "findings": ["all is well."]}


def test_audits_are_chosen_with_or_without_their_number_in_pipeline_order():
    assert [audit.name for audit in chosen(["09_root_cause", "noise_equality"])] == ["noise_equality", "root_cause"]
    with pytest.raises(Trouble, match="Did you mean 'schedule_math'"):
        chosen(["schedule_maths"])


def test_a_word_of_our_own_is_refused():
    with pytest.raises(ValueError, match="none of"):
        AuditResult("toy", "Why?", "fine", ())
