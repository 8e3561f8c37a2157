"""What nobody specified is filled from the framework's and version's own defaults, with their source."""

import json

import pytest
import yaml

import whydiff
from whydiff.audits import dimension_audit, guidance_and_step, noise_equality, prompt_embedding_stats, schedule_math
from whydiff.cli import run
from whydiff.evidence.case import Defaults
from whydiff.evidence.sides.filled import filled
from whydiff.report.settings import settings_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two requests of which little is known: the FLUX note's, as it stood before anybody looked anything up."""
    case = {"title": "FLUX, FastVideo against SGLang",
            "reference": {"name": "sglang", "settings": {"steps": 30},
                          "defaults": {"framework": "sglang", "version": "0.5.8", "model": "FLUX.1-dev"}},
            "candidate": {"name": "fastvideo", "settings": {},
                          "defaults": {"framework": "fastvideo", "version": "PR1079", "model": "black-forest-labs/FLUX.1-dev"}}}  # fmt: skip
    path = tmp_path_factory.mktemp("note") / "note.yaml"
    path.write_text(yaml.safe_dump(case))
    return whydiff.study(path)


def test_the_audit_names_the_defaults_that_nobody_specified_with_their_source(study):
    words = " ".join(map(str, dimension_audit.audit(study).findings))
    assert "nobody specified seed; each side uses its own default: reference 42, candidate 1024" in words
    assert "sample/sampling_params.py:103" in words
    [seed] = [row for row in dimension_audit.audit(study).table if row[0] == "seed"]
    assert "PyPI sglang==0.5.8 wheel" in seed[2] and "refs/pull/1079/head" in seed[4]
    assert "nobody specified height" in words and "nobody specified generator_device" in words
    assert "nobody specified guidance_scale;" not in words, "3.5 on both sides, whatever each calls it"


def test_the_audit_warns_of_other_schedules_for_the_same_weights(study):
    words = " ".join(map(str, dimension_audit.audit(study).findings))
    assert "the weights of FLUX.1-dev run with different schedules" in words and "(height // 8) * (width // 8) in SGLang 0.5.8" in words


@pytest.mark.parametrize(("audit", "words"), [
    (noise_equality, "nobody specified seed on the reference, which leaves 42, the default of SGLang 0.5.8: PyPI sglang==0.5.8"),
    (schedule_math, "nobody specified sigma_grid on the candidate, which leaves 'thousandth', the default of FastVideo 587c19be6"),
    (prompt_embedding_stats, "nobody specified max_sequence_length on the reference, which leaves 512"),
    (guidance_and_step, "nobody specified guidance_scale on the reference, which leaves 3.5"),
])  # fmt: skip
def test_each_stage_says_what_was_left_to_a_default(study, audit, words):
    assert words in " ".join(map(str, audit.audit(study).findings))


def test_what_was_stated_is_not_filled_under_another_spelling(study):
    stated = dimension_audit.stated(study, "reference")["num_inference_steps"]
    assert (stated["value"], stated["origin"]) == (30, "the case's settings")
    shown = settings_of(study, "reference")
    assert shown["steps"]["value"] == 30 and "num_inference_steps" not in shown
    assert shown["seed"]["origin"].startswith("default of SGLang 0.5.8: PyPI sglang==0.5.8 wheel")


def test_an_open_parameter_is_filled_and_a_None_that_was_given_is_not():
    defaults = Defaults(framework="sglang", version="0.5.8", model="FLUX.1-dev")
    stated = {"height": {"value": None, "origin": "default of F"}, "width": {"value": None, "origin": "call"}}
    found = filled(stated, defaults)
    assert (found["height"]["value"], found["width"]["value"]) == (720, None) and found["height"]["source"]
    assert filled(stated, None) == stated


def test_a_path_fills_nothing():
    found = filled({}, Defaults(framework="sglang", version="0.5.8", model="Wan2.2-T2V-A14B"))
    assert found["flow_shift"]["value"] == 12.0


# --- the command ---------------------------------------------------------------------------------------------------------


def test_two_versions_are_compared_and_the_status_says_whether_they_differ(capsys):
    assert run(["defaults", "sglang==0.5.6", "FLUX.1-dev", "--against", "sglang==0.5.10", "--json"]) == 1
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert (rows["seed"]["same"], rows["seed"]["reference"]["value"], rows["seed"]["candidate"]["value"]) == (False, 1024, 42)
    assert rows["num_inference_steps"]["same"] is True
    assert run(["defaults", "sglang==0.5.8", "FLUX.1-dev", "--against", "sglang==0.5.8"]) == 0
    assert "0 differ" in capsys.readouterr().out


def test_two_frameworks_are_compared_under_our_names(capsys):
    assert run(["defaults", "sglang", "Wan2.2-T2V-A14B", "--against", "diffusers"]) == 1
    out = capsys.readouterr().out
    assert "flow_shift" in out and "SGLang 0.5.23: 12.0" in out and "diffusers 0.42.1: 3.0" in out


def test_a_model_whose_frameworks_disagree_on_the_schedule_is_a_warning(capsys):
    assert run(["defaults", "diffusers", "Wan2.2-T2V-A14B", "--json"]) == 0
    captured = capsys.readouterr()
    facts = {fact["key"]: fact["value"] for fact in json.loads(captured.out)}
    assert facts["flow_shift"] == 3.0 and facts["height"] == 480
    assert "warning" in captured.err and "8 in ComfyUI" in captured.err and "3 in diffusers" in captured.err
    assert run(["defaults", "diffusers", "CogView4"]) == 0 and "warning" not in capsys.readouterr().err


def test_without_arguments_it_lists_what_it_knows(capsys):
    assert run(["defaults"]) == 0
    out = capsys.readouterr().out
    assert "SGLang  0.5.6 to 0.5.23" in out and "Wan2.2-T2V-A14B  ComfyUI, diffusers, FastVideo, SGLang, Wan-official" in out
    assert run(["defaults", "--json"]) == 0
    assert "FLUX.1-dev" in json.loads(capsys.readouterr().out)["models"]
    assert run(["defaults", "sglang"]) == 0 and "0.5.8.post1" in capsys.readouterr().out
    assert run(["defaults", "FLUX.1-dev"]) == 0 and "BFL-flux 802fb47: 2.5" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    (["defaults", "sglang==0.5.8"], "give a MODEL too"),
    (["defaults", "sglang==", "FLUX.1-dev"], "is not FRAMEWORK[==VERSION]"),
    (["defaults", "sglang", "CogView4"], "diffusers has it"),
    (["defaults", "sglang==abc", "FLUX.1-dev"], "Known: 0.5.6"),
    (["defaults", "sglang", "FLUX.1-dev", "--against", "fastvido"], "Did you mean 'FastVideo'"),
    (["defaults", "--against", "sglang"], "--against needs"),
    (["defaults", "--check", "sglang"], "SGLang is not installed here"),
    (["defaults", "--check", "diffusers", "MOVA"], "no facts about 'MOVA' in diffusers"),
])  # fmt: skip
def test_trouble_is_one_line_and_exit_2(arguments, words, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1


def test_the_check_reports_each_entry(capsys):
    pytest.importorskip("diffusers")
    assert run(["defaults", "--check", "diffusers", "FLUX.1-dev", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["differs"] == 0 and found["counts"]["agrees"] >= 10
    assert {entry["outcome"] for entry in found["entries"]} == {"agrees", "cannot be checked"}
