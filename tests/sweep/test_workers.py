"""Sweeps with a real scheduler and several worker processes: some are killed, and so is the sweep."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import psutil
import pytest
from swept_toys import toy_folder

SWEEP = """
base: toy.yaml
title: toys & <others>
grid: {call.seed: [0, 1], candidate.build.noise_scale: [1.0, 1.5]}
expect:
  - same
  - {where: {candidate.build.noise_scale: 1.5}, verdict: different}
  - {where: {call.seed: 1, candidate.build.noise_scale: 1.5}, verdict: same}
list:
  - {name: poison, set: {candidate.build.kill: always}}
  - {name: once, set: {candidate.build.kill: once}}
  - {name: broken, set: {candidate.build.broken: true}}
"""


def sweep(folder, *arguments):
    """The command as a terminal starts it: the leader of a group, to which Ctrl-C is sent (a shell's background jobs ignore it)."""
    return subprocess.Popen([sys.executable, "-m", "whydiff.cli", "sweep", "sweep.yaml", "--out", "out", *arguments], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip


def finished(folder):
    """{case: when its result was written}."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "out" / "cases").glob("*/result.json")}


def until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1] if process.poll() is not None else "too slow"
        time.sleep(0.05)


def all_gone(processes, seconds=20):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(folder, the finished process) of a sweep on the two workers of a scheduler that was running before it."""
    import logging

    from distributed import LocalCluster

    folder = toy_folder(tmp_path_factory.mktemp("swept"))
    (folder / "sweep.yaml").write_text(SWEEP)
    with LocalCluster(n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
                      silence_logs=logging.CRITICAL, local_directory=str(folder)) as cluster:  # fmt: skip
        process = sweep(folder, "--scheduler", cluster.scheduler_address, "--junit", "junit.xml", "--json")
        out, err = process.communicate(timeout=200)
    return folder, process.returncode, out, err


def test_a_case_whose_worker_was_killed_is_run_again_and_one_that_always_kills_is_set_aside(swept):
    _, status, out, err = swept
    cases = {case["name"]: case for case in json.loads(out)["cases"]}
    assert cases["once"]["verdict"] == "same" and cases["once"]["figures"]["attempts"] == 2, err
    assert cases["poison"]["verdict"] is None and "2 workers died" in cases["poison"]["trouble"]
    assert "RuntimeError: no such kernel" in cases["broken"]["trouble"]
    assert {name: case["verdict"] for name, case in cases.items() if "seed" in name} == {
        "seed=0,noise_scale=1.0": "same", "seed=0,noise_scale=1.5": "different", "seed=1,noise_scale=1.0": "same",
        "seed=1,noise_scale=1.5": "different"}  # fmt: skip
    assert status == 2
    assert "Traceback" not in err


def test_each_case_has_its_folder_and_the_table_a_line_for_each(swept):
    folder = swept[0] / "out"
    with (folder / "results.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert list(rows)[:2] == ["seed=0,noise_scale=1.0", "seed=0,noise_scale=1.5"] and len(rows) == 7
    assert rows["seed=0,noise_scale=1.5"]["candidate.build.noise_scale"] == "1.5"
    assert rows["seed=0,noise_scale=1.5"]["expectation"] == "met"
    assert rows["seed=1,noise_scale=1.5"]["expectation"] == "missed" and rows["seed=1,noise_scale=1.5"]["status"] == "1"
    assert rows["broken"]["verdict"] == "trouble" and rows["broken"]["report"] == ""
    for name, row in rows.items():
        if row["report"]:
            assert (folder / row["report"]).is_file() and json.loads((folder / "cases" / name / "verdict.json").read_text())["case"] == name
    assert "no such kernel" in json.loads((folder / "cases" / "broken" / "result.json").read_text())["trouble"]
    assert (folder / "cases" / "broken" / "output.txt").is_file()
    assert not list((folder / "cases").glob(".*"))


def test_junit_counts_what_is_not_as_expected_as_failures_and_trouble_as_errors(swept):
    root = ElementTree.parse(swept[0] / "junit.xml").getroot()
    suite = root.find("testsuite")
    assert root.tag == "testsuites" and suite.get("name") == "toys & <others>"
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert (int(suite.get("tests")), int(suite.get("failures")), int(suite.get("errors"))) == (len(cases), 1, 2) == (7, 1, 2)
    assert "expected verdict same, got different" in cases["seed=1,noise_scale=1.5"].find("failure").get("message")
    assert cases["poison"].find("error").get("type") == "set aside"
    assert cases["seed=0,noise_scale=1.5"].find("failure") is None  # a difference that is expected
    assert all(float(case.get("time")) >= 0 and case.get("classname") for case in cases.values())


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.thorough)])
def test_a_sweep_that_was_ended_lost_nothing_left_no_process_and_goes_on(tmp_path, how):
    """By Ctrl-C, and by a kill that it cannot answer."""
    folder = toy_folder(tmp_path)
    (folder / "sweep.yaml").write_text("base: toy.yaml\nset: {candidate.build.sleep: 0.04}\n"
                                       "grid: {call.seed: {from: 0, to: 4}, candidate.build.noise_scale: [1.0, 1.5]}")
    process = sweep(folder, "--workers", "2")
    until(lambda: len(finished(folder)) >= 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # what a terminal does
    else:
        process.kill()
    _, err = process.communicate(timeout=60)
    assert len(children) >= 2 and all_gone(children)
    first = finished(folder)
    assert 2 <= len(first) < 10
    if how is signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in err and "the same command goes on from there" in err
        assert (folder / "out" / "index.html").is_file()

    process = sweep(folder, "--workers", "2", "--json")
    out, err = process.communicate(timeout=200)
    told = json.loads(out)
    assert process.returncode == 1 and told["counts"] == {"agree": 5, "differ": 5, "trouble": 0}, err
    assert first.items() <= finished(folder).items()
    assert {case["name"] for case in told["cases"] if case["done_before"]} >= set(first)


def test_what_dask_has_to_say_about_lost_messages_stays_unsaid_after_the_workers_are_gone_too():
    program = """
import logging
from whydiff.sweep.cluster import workers
if __name__ == "__main__":
    with workers(None, 1, 1, {}) as (client, needed):
        assert client.submit(abs, -3).result() == 3
    logging.getLogger("distributed.batched").info("Batched Comm Closed", exc_info=OSError("no"))
    logging.getLogger("distributed.client").error("lost")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_is_all_done_starts_no_worker_and_bad_calls_are_one_line(tmp_path, monkeypatch, capsys):
    from whydiff.cli import run

    folder = toy_folder(tmp_path)
    monkeypatch.chdir(folder)
    (folder / "sweep.yaml").write_text("base: toy.yaml\ngrid: {call.seed: [0, 1, 2]}")
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").touch()
    for arguments, words in ((["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "Leave one of them out"),
                             (["--bisect", "call.sead"], "Did you mean 'call.seed'"), (["--out", "full"], "no sweep wrote"),
                             (["--bisect", "call.seed", "--junit", "j.xml", "--scheduler", "nowhere://x"], "no dask scheduler answers")):  # fmt: skip
        assert run(["sweep", "sweep.yaml", *arguments]) == 2
        said = capsys.readouterr().err.strip()
        assert words in said.splitlines()[-1] and "Traceback" not in said


def test_without_dask_the_extra_is_named(tmp_path, monkeypatch, capsys):
    from whydiff.cli import run

    folder = toy_folder(tmp_path)
    monkeypatch.chdir(folder)
    (folder / "sweep.yaml").write_text("base: toy.yaml\ngrid: {call.seed: [0]}")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(["sweep", "sweep.yaml"]) == 2
    assert "pip install 'whydiff[sweep]'" in capsys.readouterr().err.strip().splitlines()[-1]
