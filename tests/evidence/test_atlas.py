"""The atlas of defaults: what its files must hold, and what it answers."""

import json
import pathlib

import pytest

from whydiff.errors import Trouble
from whydiff.evidence.atlas.compare import compare_defaults, schedule_clashes
from whydiff.evidence.atlas.entries import read
from whydiff.evidence.atlas.keys import KEYS, complaint, equal, tokens
from whydiff.evidence.atlas.live import AGREES, DIFFERS, UNCHECKED, check_entries
from whydiff.evidence.surroundings.defaults import (
    atlas,
    data_folder,
    defaults_of,
    facts_of,
    framework_called,
    known_version,
    model_called,
)

ENTRY = {"models": ["M"], "key": "seed", "value": 1, "from": "1.0", "to": "2.0", "source": "a.py:1"}
VERSIONS = [{"version": "1.0", "source": "wheel 1.0"}, {"version": "2.0", "source": "wheel 2.0"}]


def facts(framework, version, model):
    return {fact.key: fact for fact in defaults_of(framework, version, model)}


def written(folder, *entries, **head):
    text = {"framework": "F", "versions": VERSIONS, "entries": list(entries), **head}
    pathlib.Path(folder, "f.json").write_text(json.dumps(text))
    return read(folder)


# --- the files -----------------------------------------------------------------------------------------------------------


def test_every_entry_has_a_source_a_known_key_and_a_value_of_its_type():
    entries = [entry for framework in atlas().frameworks.values() for entry in framework.entries]
    assert len(entries) > 800
    for entry in entries:
        assert all(len(source) > 5 for source in entry.sources.values()), entry
        assert entry.key in KEYS and not complaint(entry.key, entry.value), entry
        assert not isinstance(entry.value, str) or len(entry.value) < 60, f"prose is a note, not a value: {entry}"


def test_every_file_says_whose_defaults_it_has_and_each_framework_what_it_is():
    assert {path.suffix for path in data_folder("facts").iterdir()} == {".json", ".md"}
    assert all(framework.about and all(version.source for version in framework.versions) for framework in atlas().frameworks.values())


@pytest.mark.parametrize(("change", "words"), [
    ({"source": " "}, "the source is empty"),
    ({"source": {"1.0": "a.py:1", "3.0": "b.py:1"}}, "a source for '3.0'"),
    ({"key": "sead"}, "Did you mean 'seed'"),
    ({"value": "forty-two"}, "'forty-two' is not an integer"),
    ({"value": True}, "True is not an integer"),
    ({"key": "generator_device", "value": "gpu"}, "'gpu' is none of cpu, cuda"),
    ({"key": "height"}, "its unit is 'pixels', not ''"),
    ({"from": "1.5"}, "from '1.5' is none of the versions"),
    ({"from": "2.0", "to": "1.0"}, "2.0 to 1.0 is no range"),
    ({"models": "M"}, "`models` is a list"),
    ({"valeu": 3}, "unknown field 'valeu'. Did you mean 'value'"),
])  # fmt: skip
def test_a_wrong_entry_is_one_line_with_its_file_and_place(tmp_path, change, words):
    with pytest.raises(Trouble) as trouble:
        written(tmp_path, ENTRY | change)
    assert "f.json: entry 1" in str(trouble.value) and words in str(trouble.value)


@pytest.mark.parametrize("field", sorted(ENTRY))
def test_an_entry_lacks_nothing(tmp_path, field):
    with pytest.raises(Trouble, match=f"has no '{field}'"):
        written(tmp_path, {key: value for key, value in ENTRY.items() if key != field})


def test_two_values_for_the_same_versions_are_refused_and_two_paths_are_not(tmp_path):
    with pytest.raises(Trouble, match="seed of M has two values for the same versions: 1 .* and 2"):
        written(tmp_path, ENTRY, ENTRY | {"value": 2, "from": "2.0"})
    assert written(tmp_path, ENTRY, ENTRY | {"value": 2, "when": "the path is long"}).frameworks["F"]


def test_a_file_more_is_an_extension_and_versions_stand_in_one_file_only(tmp_path):
    written(tmp_path, ENTRY)
    (tmp_path / "more.json").write_text(json.dumps({"framework": "F", "entries": [ENTRY | {"models": ["N"]}]}))
    assert [entry.models for entry in read(tmp_path).frameworks["F"].entries] == [("M",), ("N",)]
    (tmp_path / "more.json").write_text(json.dumps({"framework": "F", "versions": VERSIONS, "entries": []}))
    with pytest.raises(Trouble, match="f.json, more.json"):
        read(tmp_path)


def test_a_formula_is_arithmetic_and_nothing_else():
    assert tokens("(height // 16) * (width // 16)", 720, 1280) == 3600
    assert complaint("image_seq_len", "__import__('os').getcwd()") and complaint("image_seq_len", "depth * 2")
    assert equal("image_seq_len", "(height // 16) * (width // 16)", "(height // 8 // 2) * (width // 8 // 2)")
    assert not equal("image_seq_len", "(height // 16) * (width // 16)", "(height // 8) * (width // 8)")


# --- what it answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "size", "seed", "device", "cfg", "vae"), [
    ("0.5.6", (720, 1280), 1024, "cpu", 1.0, "float32"),
    ("0.5.7", (720, 1280), 1024, "cuda", 1.0, "float32"),
    ("0.5.8", (720, 1280), 42, "cuda", 1.0, "float32"),
    ("0.5.10", (1024, 1024), 42, "cuda", 1.0, "float32"),
    ("0.5.23", (1024, 1024), 42, "cuda", 3.5, "bfloat16"),
])  # fmt: skip
def test_flux_in_sglang_version_by_version(version, size, seed, device, cfg, vae):
    """The table of shared/facts/flux_wan.md, A1."""
    found = {key: fact.value for key, fact in facts("sglang", version, "FLUX.1-dev").items()}
    assert (found["height"], found["width"], found["seed"], found["generator_device"]) == (*size, seed, device)
    assert (found["true_cfg_scale"], found["vae_dtype"], found["guidance_scale"], found["num_inference_steps"]) == (cfg, vae, 3.5, 50)
    assert tokens(found["image_seq_len"], 720, 1280) == (3600 if version in ("0.5.10", "0.5.23") else 14400)


def test_a_source_is_that_of_the_version_asked_for():
    for version in ("0.5.6", "0.5.8"):
        for fact in defaults_of("sglang", version, "FLUX.1-dev"):
            assert fact.version == version and fact.source.startswith(f"PyPI sglang=={version} wheel")


def test_a_version_between_two_that_were_read_says_what_may_have_changed():
    found = facts("sglang", "0.5.15", "FLUX.1-dev")
    assert known_version("sglang", "0.5.15", "FLUX.1-dev") == "0.5.10"
    assert found["vae_dtype"].value == "float32" and "or already 'bfloat16', the value in 0.5.23" in found["vae_dtype"].note
    assert "already" not in found["seed"].note


def test_what_was_not_looked_at_again_says_so():
    assert "last looked at in 0.5.9" in facts("sglang", "0.5.10", "FLUX.1-dev")["text_mask_in_encoder"].note
    assert "text_mask_in_encoder" not in facts("sglang", "0.5.6", "FLUX.1-dev")


def test_a_value_on_one_path_is_no_default_and_ends_with_its_versions():
    paths = {version: [fact.when for fact in facts_of("sglang", version, "Wan2.2-T2V-A14B") if fact.when]
             for version in ("0.5.8", "0.5.23")}  # fmt: skip
    assert facts("sglang", "0.5.8", "Wan2.2-T2V-A14B")["flow_shift"].value == 12.0
    assert any("trailing slash" in when for when in paths["0.5.8"]) and len(paths["0.5.23"]) == 1
    assert all(fact.value == 3.0 for fact in facts_of("sglang", "0.5.8", "Wan2.2-T2V-A14B") if fact.when)


def test_a_pull_request_does_not_answer_for_the_main_line():
    assert facts("fastvideo", None, "FLUX.1-dev")["seed"].value == 0
    assert facts("fastvideo", "PR #1079", "FLUX.1-dev")["seed"].value == facts("fastvideo", "587c19be6", "FLUX.1-dev")["seed"].value == 1024
    assert "text_encoder_dtype" not in facts("fastvideo", "PR #1079", "FLUX.1-dev"), "nor the main line for it"
    with pytest.raises(Trouble, match="nothing is known about FLUX.1-dev in FastVideo 8e39ce38c"):
        defaults_of("fastvideo", "8e39ce38c", "FLUX.1-dev")


def test_names_are_found_in_any_spelling():
    assert framework_called("Wan-Video/Wan2.2").name == "Wan-official"
    assert model_called("Wan-AI/Wan2.2-T2V-A14B-Diffusers") == "Wan2.2-T2V-A14B"
    assert model_called("stabilityai/stable-diffusion-xl-base-1.0") == "SDXL"
    with pytest.raises(Trouble, match="diffusers has it"):
        defaults_of("sglang", None, "CogView4")


def test_wan22_has_three_flow_shifts_for_the_same_weights():
    clashes = {clash.key: clash for clash in schedule_clashes("Wan2.2-T2V-A14B")}
    where = {value: {place.split()[0] for place in places} for value, places in clashes["flow_shift"].values}
    assert where == {12.0: {"Wan-official", "SGLang", "FastVideo"}, 3.0: {"diffusers"}, 8.0: {"ComfyUI"}}
    assert "3 in diffusers" in str(clashes["flow_shift"])


def test_the_dynamic_shift_of_old_sglang_clashes_and_the_mended_one_does_not():
    assert "image_seq_len" in {clash.key for clash in schedule_clashes("FLUX.1-dev", {"SGLang": "0.5.8"})}
    assert "image_seq_len" not in {clash.key for clash in schedule_clashes("FLUX.1-dev")}
    assert schedule_clashes("CogView4") == []


def test_what_changed_between_two_versions():
    rows = compare_defaults(defaults_of("sglang", "0.5.6", "FLUX.1-dev"), defaults_of("sglang", "0.5.10", "FLUX.1-dev"))
    assert {row.key for row in rows if row.same is False} == {"height", "width", "seed", "generator_device", "image_seq_len"}
    assert all(row.same is not None for row in rows if row.one and row.other)


# --- the live code -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    pytest.importorskip("diffusers")
    return check_entries(framework_called("diffusers"))


def test_no_entry_about_diffusers_differs_from_the_installed_code(checks):
    assert [f"{check.entry.key}: {check.why}" for check in checks if check.outcome == DIFFERS] == []
    agreeing = {(check.entry.models[0], check.entry.key) for check in checks if check.outcome == AGREES}
    assert len(agreeing) > 150
    assert {("FLUX.1-dev", "height"), ("FLUX.1-dev", "guidance_scale"), ("FLUX.1-dev", "max_shift"), ("SD1.5", "scaling_factor"),
            ("Wan2.1-T2V-1.3B", "sigma_grid"), ("Wan2.1-T2V-1.3B", "num_frames")} <= agreeing  # fmt: skip


def test_what_names_a_live_place_and_is_not_compared_says_why(checks):
    unchecked = [check for check in checks if check.outcome == UNCHECKED and check.entry.check]
    assert all("is not in" in check.why or "is installed" in check.why for check in unchecked)


def test_a_wrong_value_differs_from_the_installed_code(tmp_path):
    pytest.importorskip("diffusers")
    entry = ENTRY | {"key": "num_inference_steps", "unit": "steps", "value": 29, "check": "FluxPipeline.__call__(num_inference_steps)",
                     "from": None, "to": None}  # fmt: skip
    framework = written(tmp_path, entry, entry | {"models": ["N"], "value": 28}, framework="diffusers",
                        versions=[{"version": "0.1", "source": "wheel"}]).frameworks["diffusers"]
    assert [check.outcome for check in check_entries(framework)] == [DIFFERS, AGREES]
