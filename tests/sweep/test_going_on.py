"""How cases go to workers, and what happens when one dies; with workers that are only played."""

import pytest

from whydiff.sweep import running
from whydiff.sweep.bisection import bisections
from whydiff.sweep.grid import plan
from whydiff.sweep.results import Result
from whydiff.sweep.running import run_cases
from whydiff.sweep.task import Answer


class Played:
    """A crew whose workers answer at once, or die where `kills(case, worker)` says so."""

    def __init__(self, workers, kills=lambda planned, address: False, expected=False, verdict=lambda planned: "same"):
        self.workers, self.kills, self.expected, self.verdict = list(workers), kills, expected, verdict
        self.running, self.last, self.ran = {}, {}, []

    def idle(self):
        return [address for address in self.workers if address not in self.running]

    def start(self, planned, address):
        self.running[address] = planned, None
        self.last[address] = planned.name
        self.ran.append((planned.name, address))

    def ended(self):
        found = []
        for address, (planned, _) in list(self.running.items()):
            del self.running[address]
            if self.kills(planned, address):
                self.workers[self.workers.index(address)] = f"{address}'"
                found.append((planned, address, None))
            else:
                found.append((planned, address, Answer(planned.name, verdict={"verdict": self.verdict(planned)})))
        return found

    def sent_away(self, address):
        return self.expected


def answers(cases, crew):
    found = {}
    run_cases(cases, crew, lambda planned, answer: found.update({planned.name: answer}) or [])
    return found


def test_a_case_whose_worker_dies_runs_again_elsewhere(sweep_file):
    cases = plan(sweep_file("grid: {call.seed: [0, 1, 2]}")).cases
    crew = Played("ab", kills=lambda planned, address: planned.name == "seed=0" and address == "a")
    found = answers(cases, crew)
    assert found["seed=0"].verdict and found["seed=0"].figures["attempts"] == 2
    assert sorted(name for name, _ in crew.ran) == ["seed=0", "seed=0", "seed=1", "seed=2"]
    assert len({address for name, address in crew.ran if name == "seed=0"}) == 2


def test_a_case_that_kills_two_workers_is_set_aside_and_the_others_are_run(sweep_file):
    cases = plan(sweep_file("grid: {call.seed: [0, 1, 2]}")).cases
    crew = Played("ab", kills=lambda planned, address: planned.name == "seed=1")
    found = answers(cases, crew)
    assert found["seed=1"].figures["set_aside"] and "2 workers died" in found["seed=1"].trouble
    assert all(found[name].verdict for name in ("seed=0", "seed=2"))
    assert [name for name, _ in crew.ran].count("seed=1") == running.KILLS


def test_a_worker_that_was_asked_to_go_is_no_fault_of_its_case(sweep_file):
    cases = plan(sweep_file("grid: {call.seed: [0]}")).cases
    left = iter([True] * 5)
    found = answers(cases, Played("a", kills=lambda planned, address: next(left, False), expected=True))
    assert found["seed=0"].verdict and found["seed=0"].figures["attempts"] == 1


def test_cases_that_share_a_side_meet_on_one_worker(sweep_file):
    cases = plan(sweep_file("grid: {candidate.build.noise_scale: [1.0, 1.5, 2.0], call.seed: [0, 1]}")).cases
    crew = Played("ab")
    answers(cases, crew)
    by_seed = {}
    for name, address in crew.ran:
        by_seed.setdefault(name.rpartition("=")[2], []).append(address)
    assert all(len(set(used)) == 1 for used in by_seed.values()), crew.ran


# --- bisection -------------------------------------------------------------------------------------------------------


def searched(path, flips, workers="ab"):
    """(the bisections, how many cases were run) where `flips(settings)` says whether a case differs."""
    planned = plan(path)
    searches = bisections(planned, "call.num_inference_steps", "sweep.yaml")
    crew = Played(workers, verdict=lambda one: "different" if flips(one.settings) else "same")

    def done(one, answer):
        search = next(s for s in searches if one in s.cases)
        return search.next(Result(one, answer.verdict | {"causes": [], "unexplained": []}, "", 0.0, {}))

    run_cases([one for search in searches for one in search.ends()], crew, done)
    return searches, len(crew.ran)


@pytest.mark.parametrize("flip", [2, 3, 37, 63, 64])
def test_the_flip_is_found_in_logarithmically_many_runs(sweep_file, flip):
    path = sweep_file("grid: {call.num_inference_steps: {from: 1, to: 64}}")
    (search,), runs = searched(path, lambda settings: settings["call.num_inference_steps"] >= flip)
    assert search.flips == (flip - 1, flip)
    assert runs <= 2 + 6
    assert f"agree up to {flip - 1}, differ from {flip} on ({runs} of 64 cases run)" in search.word()


def test_each_combination_of_the_other_settings_is_searched_by_itself(sweep_file):
    path = sweep_file("grid: {call.seed: [0, 1], call.num_inference_steps: [16, 8, 4, 2, 1]}")
    searches, runs = searched(path, lambda settings: settings["call.num_inference_steps"] < (8 if settings["call.seed"] else 2))
    assert [search.flips for search in searches] == [(2, 1), (8, 4)]  # in the order of the file
    assert "call.num_inference_steps with call.seed=1: agree up to 8, differ from 4 on" in searches[1].word()


def test_equal_ends_are_said_and_not_searched(sweep_file):
    path = sweep_file("grid: {call.num_inference_steps: {from: 1, to: 9}}")
    (search,), runs = searched(path, lambda settings: settings["call.num_inference_steps"] == 5)
    assert search.flips is None and runs == 2
    assert "both 1 and 9 agree" in search.word() and "more than once" in search.word()
