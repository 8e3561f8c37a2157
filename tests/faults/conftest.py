"""One run of the benchmark's machinery, used by several tests."""

import functools

import pytest

from whydiff.faults.catalogue import load
from whydiff.faults.fault import FAULTS, Fault
from whydiff.faults.plan import ROLES, Plan
from whydiff.faults.run import run


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="package")
def records(folder):
    """A few quick trials, run two at a time."""
    load()
    FAULTS["leaky"] = Fault("leaky", _remembers, ("flux",))
    wanted = [Plan("catalogue", id_, 3, host="flux", side=side) for id_, side in zip(("shift-constant", "rgb-bgr", "leaky"), 2 * ROLES)]
    wanted += [Plan("mutations", "mutation-01", 3, host="flux"), Plan("traces", "shift-constant", 3, host="flux")]
    try:
        return run(wanted, folder / "results.jsonl", jobs=2)
    finally:
        del FAULTS["leaky"]


def _remembers(trial):
    """A schedule that is a little different after each call."""
    scheduler = trial.faulty.pipeline.scheduler
    original, calls = scheduler.set_timesteps, []

    @functools.wraps(original)
    def set_timesteps(*args, **kwargs):
        original(*args, **kwargs)
        scheduler.sigmas = scheduler.sigmas * (1 + 0.1 * len(calls))
        calls.append(1)

    scheduler.set_timesteps = set_timesteps
