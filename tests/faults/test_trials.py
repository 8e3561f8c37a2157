"""Trials: planted by chance that repeats, proved to change something, run once and kept."""

import dataclasses
import time

import pytest

from whydiff.faults import hosts, run, trial
from whydiff.faults.children import in_children
from whydiff.faults.fault import FAULTS, Fault
from whydiff.faults.known import KNOWN
from whydiff.faults.plan import Plan, plans
from whydiff.faults.right import half


def test_every_trial_ends_with_a_verdict(records):
    assert len(records) == 5
    assert [r["plan"]["id"] for r in records if "verdict" not in r] == []


def test_what_was_planted_changes_the_picture_or_what_follows_another_call(records):
    how = {r["plan"]["id"]: r["proof"]["how"] for r in records}
    assert how["shift-constant"] == how["rgb-bgr"] == "image"
    assert how["leaky"] == "leak"


def test_what_was_run_by_the_same_code_is_not_run_again(records, folder, monkeypatch):
    monkeypatch.setattr(run, "_work", lambda *_: pytest.fail("ran again"))
    wanted = [Plan(**r["plan"]) for r in records if r["plan"]["id"] != "leaky"]
    assert [r["key"] for r in run.run(wanted, folder / "results.jsonl")] == [plan.key for plan in wanted]


def test_other_code_runs_again(records, monkeypatch):
    stored = {r["key"]: r for r in records}
    plan, finals, waiting = Plan(**records[0]["plan"]), {}, []
    run._advance(plan.key, plan, stored, finals, waiting)
    assert finals and not waiting
    monkeypatch.setattr(run, "fingerprint", lambda plan: "another")
    finals.clear()
    run._advance(plan.key, plan, stored, finals, waiting)
    assert waiting and not finals


def test_a_seed_draws_the_same_host_side_and_site_again_and_another_seed_others():
    first, again = (plans(["catalogue", "mutations", "pairs"], 5) for _ in range(2))
    other = plans(["catalogue", "mutations", "pairs"], 6)
    assert first == again
    assert [p.host for p in first] != [p.host for p in other]
    assert {p.side for p in first} == {"reference", "candidate"}
    assert first[0].draw("inject").random() == again[0].draw("inject").random()


def test_a_planted_fault_repeats_bit_for_bit():
    plan = Plan("mutations", "mutation-04", 3, host="flux")
    one, two = (trial.planted(plan) for _ in range(2))
    assert (one.module, one.mutation) == (two.module, two.mutation)
    assert trial._equal(hosts.image_of(one.faulty), hosts.image_of(two.faulty))


def test_an_injection_that_changes_nothing_is_an_error_and_no_trial(tmp_path, monkeypatch):
    monkeypatch.setitem(FAULTS, "idle", Fault("idle", _idle, ("flux",)))
    record = run.run([Plan("catalogue", "idle", 0, host="flux")], tmp_path / "results.jsonl")[0]
    assert record["invalid"] and "changed nothing" in record["error"]


def _idle(trial):
    pass


def test_the_two_sides_of_a_pair_share_nothing():
    a, b = hosts.pair("flux")
    for name, part in a.pipeline.transformer.named_parameters():
        assert part.data_ptr() != b.pipeline.transformer.get_parameter(name).data_ptr()
    assert trial._equal(hosts.image_of(a), hosts.image_of(b))


def test_a_child_that_hangs_is_ended_and_one_that_raises_is_heard():
    tasks = [("hangs", lambda: time.sleep(60)), ("spins", _spins), ("raises", lambda: 1 / 0), ("works", lambda: {"value": 7})]
    left = list(tasks)
    results = dict(in_children(lambda: left.pop() if left else None, jobs=4, seconds=1.0, waits=3.0))
    assert results["works"] == {"value": 7}
    assert "ZeroDivisionError" in results["raises"]["error"]
    assert "too long" in results["hangs"]["error"] and "too long" in results["spins"]["error"]


def _spins():
    while True:
        pass


def test_pairs_are_of_different_stages_on_a_host_that_carries_both():

    for plan in plans(["pairs"], 1):
        _, one, two = plan.id.split("+")
        assert KNOWN[one].stage != KNOWN[two].stage
        assert plan.host in FAULTS[one].hosts and plan.host in FAULTS[two].hosts
    assert len({dataclasses.astuple(plan) for plan in plans(["pairs"], 1)}) >= 60


def test_a_half_of_the_catalogue_leaves_out_the_other_in_pairs_and_traces_too():
    for name, other in ("AB", "BA"):
        suites = ["catalogue", "pairs", "traces"]
        ids = {part for plan in plans(suites, 1, half=name) for part in plan.id.split("+") if part in KNOWN}
        assert ids and all(half(id_) == name for id_ in ids)
        assert not ids & {plan.id for plan in plans(["catalogue"], 1, half=other)}
