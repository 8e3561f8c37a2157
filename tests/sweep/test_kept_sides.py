"""A worker keeps pipelines and recordings from case to case: the verdicts are those of sides that are loaded anew."""

import sys

import pytest
import torch

from whydiff.engine.api import study
from whydiff.evidence.sides.as_loaded import AsLoaded
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.surroundings.fingerprint import fingerprint
from whydiff.sweep import process_state, task
from whydiff.sweep.grid import plan
from whydiff.sweep.pool import Pool


@pytest.fixture
def counted(monkeypatch):
    """The runs of each role."""
    runs, run = {"reference": 0, "candidate": 0}, RunnableSide.run

    def counting(side, *args, **kwargs):
        runs[side.role] += 1
        return run(side, *args, **kwargs)

    monkeypatch.setattr(RunnableSide, "run", counting)
    return runs


@pytest.fixture
def worker(monkeypatch):
    """A process that has run nothing yet."""
    monkeypatch.setattr(task, "_pool", None)
    return lambda planned: task.run(planned)


def told(verdict):
    return verdict.to_dict()


def test_kept_sides_and_shared_recordings_give_the_verdicts_of_fresh_ones(sweep_file, toys, worker, counted):
    cases = plan(sweep_file("""
        grid: {call.seed: [0, 1], candidate.build.noise_scale: [1.0, 1.5], call.height: [6, 8]}
        list: [{name: longer, set: {call.num_inference_steps: 5}}, {name: leaky, set: {candidate.build.leaky: true}}]
    """)).cases
    fresh = [told(study(planned.case()).verdict) for planned in cases]
    alone, counted["reference"] = counted["reference"], 0
    (toys / "loaded.txt").unlink()
    answers = [worker(planned) for planned in sorted(cases, key=lambda planned: str(planned.settings.get("call.seed")))]
    assert {answer.name: answer.verdict for answer in answers} == {v["case"]: v for v in fresh}
    loaded = (toys / "loaded.txt").read_text().splitlines()
    assert sum(line.startswith("Toy") for line in loaded) == 1
    assert sum(line.startswith("Port") for line in loaded) == 3  # two scales, and the leaky one
    assert counted["reference"] < 0.7 * alone
    assert sum(answer.figures["shared"] for answer in answers) > 0


@pytest.mark.thorough
def test_a_size_that_an_earlier_case_left_behind_does_not_reach_the_next(sweep_file, worker):
    """The leaky port keeps the table of the first height: A-B-A does not see it, as both have one height; a kept side would."""
    cases = plan(sweep_file("set: {candidate.build.leaky: true}\ngrid: {call.height: [6, 8, 6.0, 8.0]}".replace(", 6.0, 8.0", ""))).cases
    answers = [worker(planned) for planned in (*cases, *cases)]
    assert [answer.verdict["verdict"] for answer in answers] == ["same"] * 4
    assert answers[1].figures["loaded"] == 0


@pytest.mark.thorough
def test_what_files_of_sides_hold_for_the_whole_process_does_not_reach_the_next_case(sweep_file, toys, worker):
    """A global that keeps the first seed: in a process of its own each case agrees."""
    (toys / "sides.py").write_text((toys / "sides.py").read_text() + """
HELD = {}

class Keeps(Toy):
    def __call__(self, prompt="a circle", seed=0):
        return super().__call__(prompt, seed=HELD.setdefault("seed", seed))

def keeps(**build):
    return Keeps()
""")
    cases = plan(sweep_file("set: {candidate.entry: 'sides.py:keeps'}\ngrid: {call.seed: [3, 4]}")).cases
    first, second = (worker(planned) for planned in cases)
    assert first.verdict["verdict"] == second.verdict["verdict"] == "same"
    assert second.figures["loaded"] == 2


@pytest.mark.thorough
def test_a_side_that_its_files_hold_is_not_mixed_up_with_another_build_of_it(sweep_file, toys, worker):
    (toys / "sides.py").write_text((toys / "sides.py").read_text() + """
SIDE = None

def kept_globally(**build):
    global SIDE
    SIDE = Port(**build)
    def run(prompt="a circle", seed=0):
        return SIDE(prompt, seed=seed)
    return run
""")
    cases = plan(sweep_file("set: {candidate.entry: 'sides.py:kept_globally'}\ngrid: {candidate.build.noise_scale: [1.0, 1.5]}")).cases
    found = [worker(planned).verdict["verdict"] for planned in (*cases, *cases)]
    assert found == ["same", "different"] * 2


@pytest.mark.thorough
def test_what_a_side_sets_for_the_process_does_not_reach_cases_that_do_not_have_it(sweep_file, worker):
    cases = plan(sweep_file("grid: {candidate.build.tf32: [true, false]}")).cases
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        seen = []
        for planned in (*cases, *cases):
            worker(planned)
            seen.append(torch.backends.cuda.matmul.allow_tf32)
        assert seen == [True, before, True, before]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_environment_variables_and_flags_come_back(monkeypatch):
    before = process_state.read()
    monkeypatch.setenv("WHYDIFF_SWEEP_TEST", "1")
    torch.set_default_dtype(torch.float64)
    assert set(process_state.change(before, process_state.read())) == {"$ WHYDIFF_SWEEP_TEST", "default_dtype"}
    process_state.put(before)
    assert process_state.read() == before


def test_a_side_is_put_back_as_it_was_loaded():
    class Pipeline:
        def __init__(self):
            self.network = torch.nn.Linear(2, 2)
            self.network.register_buffer("table", torch.zeros(2))
            self.held, self.order, self.generator = {"a": [1]}, [self.network], torch.Generator().manual_seed(3)

            def closure(x, seen=None, kept=[1, 2]):  # noqa: B006
                return self, x, kept

            self.closure = closure

        def __call__(self):
            pass

    side = Pipeline()
    memory, first = AsLoaded(side), fingerprint(side)
    side.held["a"].append(2)
    side.held["b"] = side.new = 1
    side.order.clear()
    side.network.table.add_(1)
    side.network.register_forward_hook(lambda *_: None)
    side.closure.__defaults__[1].append(3)
    torch.rand(3, generator=side.generator)
    assert fingerprint(side) != first
    memory.put_back()
    assert fingerprint(side) == first
    with torch.no_grad():
        side.network.weight.add_(1)
    memory.put_back()
    assert fingerprint(side) != first  # weights are not copied: that they changed is seen


def test_a_side_in_another_interpreter_stays_loaded_too(sweep_file, toys, monkeypatch):
    cases = plan(sweep_file(f"set: {{candidate.python: {sys.executable}}}\n"
                            "grid: {candidate.call.seed: [0, 1], call.height: [6, 8]}\nexclude: [{candidate.call.seed: 1, call.height: 8}]")).cases
    pool, verdicts = Pool(), []
    for planned in cases:
        pool.begin()
        found = study(planned.case(), store=pool)
        verdicts.append(found.verdict.to_dict())
        pool.keep(found)
    loaded = (toys / "loaded.txt").read_text().splitlines()
    assert sum(line.startswith("Port") for line in loaded) == 1
    fresh = [study(planned.case()).verdict.to_dict() for planned in cases[1:]]
    assert verdicts[1:] == fresh
