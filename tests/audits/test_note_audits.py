"""What the investigations are made of: switches solved backwards, claims weighed, defaults by version, defects one by one."""

import pathlib

import pytest

import whydiff
from whydiff.audits import claims, defaults_by_version, effective_shift, expert_switch, one_by_one
from whydiff.audits.expert_switch import Configured
from whydiff.engine.expectation import shortfall
from whydiff.errors import Trouble
from whydiff.evidence.case import load_case

CASES_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases"
EVIDENCE = CASES_FOLDER / "wan22_expert_switch"
SHIFTS = [Configured(3.0, "one model"), Configured(5.0, "another"), Configured(12.0, "the model meant")]


def test_the_word_follows_from_where_the_switch_was_seen():
    assert expert_switch.audit(9, 27, 0.875, 12.0, SHIFTS).verdict == "different"
    assert expert_switch.audit(18, 27, 0.875, 12.0, SHIFTS).verdict == "same"
    assert expert_switch.audit(7, 27, 0.875, 12.0, SHIFTS).verdict == "incomparable"
    assert expert_switch.audit(9, 27, 0.875, 12.0, SHIFTS, "flow_match_euler").verdict == "incomparable"
    assert "of the shifts configured (3, 5, 12) only 3 does" in expert_switch.audit(9, 27, 0.875, 12.0, SHIFTS).words()
    with pytest.raises(Trouble, match="unknown grid"):
        expert_switch.audit(9, 27, 0.875, 12.0, SHIFTS, "unipcc")


def test_the_other_branches_of_unipc_switch_elsewhere():
    assert dict(expert_switch.other_branches(27, 0.875).rows) == {
        "linear": 4, "karras sigmas": 6, "exponential sigmas": 4, "beta sigmas": 17,
    }  # fmt: skip


def test_the_notes_table_is_right_for_the_shift_it_names_and_for_no_other():
    assert expert_switch.table_error(EVIDENCE / "note_table.csv", 12.0, "unipc_0.36") < 0.05
    assert expert_switch.table_error(EVIDENCE / "note_table.csv", 12.0, "flow_unipc") < 1
    assert expert_switch.table_error(EVIDENCE / "note_table.csv", 11.0, "unipc_0.36") > 1


def test_the_paths_that_lose_the_shift_depend_on_the_version():
    rows = expert_switch.read_resolved(EVIDENCE / "resolved.csv")
    assert len(expert_switch.paths_with(rows, "SGLang", "0.5.8", [3.0])) == 3
    assert expert_switch.paths_with(rows, "SGLang", "0.5.23", [3.0]) == ["./models/wan2.2"]
    assert expert_switch.paths_with(rows, "SGLang", "0.5.8", []) == []
    table = expert_switch.resolved_table(rows, "SGLang")
    assert len(table.columns) == 8 and len(table.rows) == 5
    with pytest.raises(Trouble, match=r"note_table\.csv is no table"):
        expert_switch.read_resolved(EVIDENCE / "note_table.csv")


def test_a_claim_that_nothing_could_refute_is_marked_and_an_open_one_stays_open():
    known = [claims.Claim("a", True, "x"), claims.Claim("b", False, "y", vacuous=True), claims.Claim("c", None, "z")]
    result = claims.settle("toy", "Why?", "different", known, ("so it is.",))
    assert result.words().splitlines()[1:] == ["holds: a.", "refuted; its check was vacuous: b.", "open: c.", "so it is."]
    assert [row[2] for row in result.table] == ["x", "y", "z"]


def test_defaults_that_changed_between_versions_are_named():
    versions = ["0.5.6", "0.5.7", "0.5.8", "0.5.10"]
    known = defaults_by_version.by_version("SGLang", "FLUX.1-dev", versions, ["seed", "num_inference_steps", "no such key"])
    assert list(known) == ["seed", "num_inference_steps"]
    assert defaults_by_version.changed_keys(known) == ["seed"]
    assert defaults_by_version.version_table(known, versions).rows[0] == ("seed", "1024", "1024", "42", "42", "0.5.8")
    shifts = defaults_by_version.configured_shifts("SGLang", "0.5.8", ["Wan2.2-T2V-A14B", "Wan2.1-T2V-1.3B", "no such model"])
    assert [entry.shift for entry in shifts] == [12.0, 3.0] and all(entry.source for entry in shifts)


def test_four_times_the_tokens_leave_34_steps_near_noise_instead_of_13():
    """facts, flux_wan.md A2: 1280 x 720, 50 steps."""
    rows = effective_shift.by_size([(1280, 720)], {"packed": 1, "pixels": 4}, 50).rows
    assert [row[4:6] for row in rows] == [("2.904", "13 of 50"), ("18.07", "34 of 50")]
    assert effective_shift.tokens_at_which(3.0) == pytest.approx(3792, abs=1)


@pytest.mark.parametrize("name", ["flux_fastvideo_vs_sglang", "flux_note_noise_check", "flux_note_scheduler_check",
                                  "flux_sampling_1280x720"])  # fmt: skip
def test_the_cases_of_the_flux_note_come_out_as_they_say(name):
    case = load_case(CASES_FOLDER / f"{name}.yaml")
    assert shortfall(whydiff.diagnose(case), case.expect) is None


def test_each_defect_alone_moves_the_picture_of_a_port_that_is_healthy_otherwise():
    case = load_case(CASES_FOLDER / "flux_rope.yaml", {"candidate.build": {"apply_rope": False, "sigma_min": 0.001}})
    found = {entry.argument: entry.difference for entry in one_by_one.alone(case)}
    assert list(found) == ["apply_rope", "sigma_min", "all together"]
    assert found["apply_rope"] > found["sigma_min"] > 0
    assert one_by_one.table(one_by_one.alone(case, keep=("apply_rope",))).rows[0][0] == "sigma_min"
    with pytest.raises(Trouble, match="can be run"):
        one_by_one.alone(load_case(CASES_FOLDER / "flux_note_defaults.yaml"))


def test_a_table_of_timesteps_stands_beside_what_the_schedulers_hand_on():
    table = expert_switch.beside_table(EVIDENCE / "note_table.csv", 12.0, ("unipc_0.36", "flow_unipc"), 0.875)
    assert len(table.rows) == 28 and table.rows[-1][2] == "0.05"
    assert table.rows[0][1:5] == ("999.9", "999.92", "999.99", 999)
    assert [row[0] for row in table.rows[:-1] if row[-1] == "second"] == list(range(18, 27))
