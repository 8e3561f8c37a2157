"""The judge: red on a wrong cause, a wrong place, an alarm; and what it counts."""

import json

import pytest

from whydiff.errors import Trouble
from whydiff.faults import report
from whydiff.faults.known import KNOWN, NOT_CARRIED
from whydiff.faults.right import RIGHT, half, probes_of
from whydiff.faults.score import judge, table


def record(id_="shift-constant", causes=("shift-constant",), probe="sigmas", stage="schedule", side="candidate", suite="catalogue",
           verdict="different", equivalent=(), **proof):  # fmt: skip
    causes = [{"id": c, "equivalent": list(equivalent), "module": None} for c in causes]
    first = {"stage": stage, "probe": probe, "module": proof.get("at")} if verdict == "different" else None
    return {"plan": {"suite": suite, "id": id_, "host": "flux", "side": side}, "seconds": 2.5, "cpu": 2.0,
            "proof": {"how": "image", "effect": 0.1} | proof,
            "verdict": {"verdict": verdict, "causes": causes, "first_divergence": first, "unexplained": []}}  # fmt: skip


def test_the_right_cause_at_the_right_place_is_right():
    found = judge(record())
    assert found.place and found.cause and not found.false


def test_a_wrong_cause_is_false_and_not_right():
    found = judge(record(causes=("num-inference-steps",)))
    assert found.place and not found.cause and found.false == ("num-inference-steps",)


def test_a_second_cause_that_was_not_planted_is_false_though_the_first_is_right():
    found = judge(record(causes=("shift-constant", "seed")))
    assert found.cause and found.false == ("seed",)


def test_an_equivalent_counts():
    assert judge(record(id_="shift-applied-twice", causes=("shift-constant",), equivalent=("shift-applied-twice",))).cause


def test_unexplained_is_no_false_cause():
    found = judge(record(causes=()))
    assert found.place and found.cause is False and not found.false


def test_a_wrong_place_is_wrong():
    assert judge(record(probe="latents", stage="scheduler_step")).place is False


def test_a_leak_must_be_seen_as_one():
    leak = {"id_": "stale-prompt-cache", "causes": ("stale-prompt-cache",), "how": "leak"}
    assert judge(record(**leak, probe="negative_prompt_embeds", stage="state_leakage")).place
    assert not judge(record(**leak, probe="negative_prompt_embeds", stage="prompt_encoding")).place


def test_what_mirrors_counts_only_where_the_reference_carries_it():
    asked = {"id_": "padded-rows-not-zeroed", "causes": ("padded-rows-zeroed-wrongly",), "probe": "prompt_embeds"}
    assert judge(record(**asked, side="reference")).cause
    assert not judge(record(**asked, side="candidate")).cause


def test_a_mutation_is_right_at_its_module_alone_and_any_cause_is_false():
    asked = {"id_": "mutation-01", "suite": "mutations", "module": "unet/a.b", "mutation": "clamped", "probe": "noise_pred_text"}
    assert judge(record(**asked, causes=(), at="unet/a.b")).place
    assert not judge(record(**asked, causes=(), at="unet/a")).place
    assert judge(record(**asked, causes=("qk-norm-config",), at="unet/a.b")).false == ("qk-norm-config",)


def test_a_benign_variation_called_different_is_an_alarm():
    assert judge(record(id_="qkv-fused-flux", suite="benign", causes=())).alarm
    assert not judge(record(id_="qkv-fused-flux", suite="benign", causes=(), verdict="within_noise")).alarm


def test_a_pair_needs_both():
    asked = {"id_": "pair-01+shift-constant+rgb-bgr", "suite": "pairs"}
    assert judge(record(**asked, causes=("shift-constant", "rgb-bgr"))).cause
    assert not judge(record(**asked, causes=("shift-constant",))).cause


def test_below_the_floor_is_shown_by_measurement_and_never_where_a_difference_is_claimed():
    assert judge(record(causes=(), verdict="within_noise", effect=1e-7, floor=1e-7)).below
    assert not judge(record(causes=(), verdict="within_noise", effect=1e-3, floor=1e-7)).below
    assert not judge(record(effect=1e-7, floor=1e-7)).below


def test_the_table_counts_what_was_judged_and_its_bars_can_be_missed():
    rows = {f.what: f for f in table([judge(record()), judge(record(causes=("seed",)))])}
    assert (rows["right cause named first, all"].right, rows["right cause named first, all"].of) == (1, 2)
    assert rows["right cause named first, all"].met is False
    assert rows["right stage and probe of the first divergence"].met is True
    assert rows["a false cause named in any position (catalogue and mutations)"].share == 0.5
    assert rows["median processor seconds of one diagnosis of the tiny Flux, one thread"].right == 2.0


def test_a_trial_without_a_verdict_counts_as_a_miss():
    broken = {k: v for k, v in record().items() if k not in ("verdict", "cpu")} | {"error": "took too long"}
    assert {f.what: f for f in table([judge(broken)])}["right cause named first, all"].of == 1


def test_both_halves_are_about_half():
    share = sum(half(id_) == "A" for id_ in KNOWN) / len(KNOWN)
    assert 0.4 < share < 0.6


def test_all_of_the_catalogue_is_known_and_every_table_speaks_of_it():
    from whydiff.faults.catalogue import load
    from whydiff.faults.fault import FAULTS

    assert load() == ()
    assert len(KNOWN) == 161
    assert set(RIGHT) <= set(KNOWN) and set(NOT_CARRIED) <= set(KNOWN) and set(FAULTS) <= set(KNOWN)
    assert not set(NOT_CARRIED) & set(FAULTS)
    assert all(probes_of(id_) for id_ in KNOWN)


def test_hosts_and_sides_of_every_fault_exist():
    from whydiff.faults.catalogue import load
    from whydiff.faults.fault import FAULTS
    from whydiff.faults.hosts import HOSTS

    load()
    assert {id_: host for id_, fault in FAULTS.items() for host in fault.hosts if host not in HOSTS} == {}


def test_neither_the_engine_nor_the_faults_know_of_each_other():
    import pathlib

    import whydiff

    root = pathlib.Path(whydiff.__file__).parent
    rooms = ("engine", "causes", "evidence", "formulas", "measure")
    assert [p.name for room in rooms for p in (root / room).rglob("*.py") if "whydiff.faults" in p.read_text(encoding="utf-8")] == []
    planted = [*(root / "faults" / "catalogue").rglob("*.py"), root / "faults" / "mutations.py"]
    assert [p.name for p in planted for room in rooms if f"whydiff.{room}" in p.read_text(encoding="utf-8")] == []


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{report.BEGIN}\nold\n{report.END}\nz\n")
    report.into_readme(readme, "new")
    assert readme.read_text() == f"a\n{report.BEGIN}\nnew\n{report.END}\nz\n"
    readme.write_text("nothing")
    with pytest.raises(Trouble, match="faults:begin"):
        report.into_readme(readme, "new")


def test_every_miss_is_named_with_what_was_expected_and_what_came():
    lines = report.misses([judge(record()), judge(record(causes=("seed",)))])
    assert len(lines) == 1 and "FALSE CAUSE seed" in lines[0] and "Expected shift-constant" in lines[0]
    assert json.dumps(report.to_dict([judge(record())], 0, set()))
