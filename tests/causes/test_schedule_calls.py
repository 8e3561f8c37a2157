"""Which cause is named when the sides evaluate their networks, or step, another number of times."""


import pytest
import torch
from scheduler_bench import finding

from whydiff.causes.finding import CALLS, Finding
from whydiff.causes.registry import explain
from whydiff.engine.lab import Lab
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.formulas.schedule_betas import alphas_cumprod, solve_betas
from whydiff.places import Place

TIMESTEPS = [1000.0, 900.0, 750.0, 600.0, 400.0, 200.0]


def trace(steps=range(6), skipped=(), twice=(), lost=(), guided=(), guidance=None, experts=None, picture=False, listed=None):
    """A recorded loop over TIMESTEPS: which entries it takes, where it reuses a prediction, steps twice, or not at all."""
    made, index, prediction = Trace(), 0, None

    def add(place, tensor, component="transformer"):
        made.add(Event(place, tensor, component=component))

    add(Place("timesteps"), torch.tensor(listed or TIMESTEPS), None)
    if picture:
        add(Place("image_latents"), torch.ones(1, 4), None)
    seen: dict = {}
    for k in steps:
        if k not in skipped:
            add(Place("model_input/timestep", index, occurrence=seen.get(index, 0)), torch.tensor([TIMESTEPS[k]]))
            if guidance is not None:
                add(Place("model_input/guidance", index), torch.tensor([guidance]))
            prediction = torch.full((1, 4), float(k))
            name = experts[k] if experts else "transformer"
            add(Place("noise_pred_text", index, occurrence=seen.get(index, 0)), prediction, name)
            if k in guided:
                add(Place("noise_pred_uncond", index), -prediction, name)
            seen[index] = seen.get(index, 0) + 1
        for _ in range(2 if k in twice else 0 if k in lost else 1):
            add(Place("noise_pred", index), prediction, None)
            add(Place("latents", index), torch.full((1, 4), float(index)), None)
            index += 1
    return made


def lab_of(reference, candidate):
    lab = Lab(make_case({"reference": {"settings": {"a": 1}}, "candidate": {"settings": {"a": 1}}}))
    lab.traces = {"reference": reference, "candidate": candidate}
    return lab


def named(reference, candidate):
    return explain(Finding("timesteps", [Place("timesteps")], {}, {}, None, 0.0, kind=CALLS), lab_of(reference, candidate))


CASES = {
    "last step left out": ("loop-count-off-by-one", {"steps": range(5)}),
    "first step left out": ("loop-count-off-by-one", {"steps": range(1, 6)}),
    "every third evaluation skipped": ("accelerator-on-one-side", {"skipped": (2, 5)}),
    "stepped twice at each": ("step-double-application", {"twice": range(6)}),
    "stepped twice once": ("step-double-application", {"twice": (3,)}),
    "not stepped once": ("step-double-application", {"lost": (3,)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loop_that_does_something_else_is_named_on_either_side(case):
    id_, damage = CASES[case]
    (forward,), (backward,) = named(trace(), trace(**damage)), named(trace(**damage), trace())
    assert forward.id == backward.id == id_
    assert {forward.departs, backward.departs} in ({"candidate", "reference"}, {"unknown"})


def test_a_picture_that_starts_elsewhere_in_the_list_is_a_matter_of_strength():
    (cause,) = named(trace(range(2, 6), picture=True), trace(range(4, 6), picture=True))
    assert cause.id == "img2img-strength-meaning"
    assert named(trace(range(6)), trace(range(3, 6))) == []  # without a picture, three steps less are something else


def test_steps_left_out_in_the_middle_have_no_name():
    assert named(trace(), trace([0, 1, 3, 4, 5])) == []


def test_guidance_of_two_branches_beside_guidance_fed_to_the_network():
    (cause,) = named(trace(guidance=3.5), trace(guidance=1.0, guided=range(6)))
    assert cause.id == "true-cfg-vs-embedded"


class Guided:
    """A live side that guides when `condition(arguments)` holds."""

    def __init__(self, call, condition):
        self.call, self.condition, self.components, self.subject = call, condition, {}, None

    def spelling(self, setting):
        return setting

    def takes(self, key):
        return True


@pytest.mark.parametrize(("call", "condition", "id_"), [
    ({"guidance_scale": 3.0}, lambda a: a["guidance_scale"] > 1 and a.get("negative_prompt") is not None, "cfg-enable-threshold"),
    ({"guidance_scale": 1.0}, lambda a: a["guidance_scale"] > 1, "cfg-enable-threshold"),
    ({"guidance_scale": 0.0}, lambda a: (a["guidance_scale"] or 5.0) > 1, "zero-value-treated-as-missing"),
])  # fmt: skip
def test_the_condition_that_switches_guidance_on_is_found_by_running_with_another_value(call, condition, id_):
    side = Guided(call, condition)
    runs = {True: trace(guided=range(6)), False: trace()}
    own = runs[condition(call)]
    lab = lab_of(runs[not condition(call)], own)
    lab.sides["candidate"] = side
    lab.run = lambda role, changes=None: runs[bool(condition(call | (changes or {})))]
    (cause,) = explain(Finding("timesteps", [Place("timesteps")], {}, {}, None, 0.0, kind=CALLS), lab)
    assert cause.id == id_


def test_another_expert_at_some_steps_is_a_boundary_and_only_if_just_those_differ():
    high_low = [["high"] * n + ["low"] * (6 - n) for n in (2, 4)]
    reference, candidate = (trace(experts=names) for names in high_low)
    for k in (2, 3):
        candidate.events[Place("noise_pred_text", k)].tensor += 1
    lab = lab_of(reference, candidate)
    (cause,) = explain(finding(lab, "noise_pred_text"), lab)
    assert cause.id == "expert-boundary"
    assert (cause.relation["switch_reference"], cause.relation["switch_candidate"]) == (2, 4)
    candidate.events[Place("noise_pred_text", 5)].tensor += 1
    from whydiff.causes import expert

    assert expert.explain(finding(lab, "noise_pred_text"), lab) == []


def test_a_timestep_for_each_token_is_told_from_one_for_all():
    reference, candidate = trace(), trace()
    tokens = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for k in range(6):
        reference.events[Place("model_input/timestep", k)].tensor = torch.full((1,), TIMESTEPS[k])[:, None] * tokens
    lab = lab_of(reference, candidate)
    (cause,) = explain(finding(lab, "model_input/timestep"), lab)
    assert cause.id == "per-token-timestep" and cause.relation["tokens"] == 2
    for k in range(6):
        reference.events[Place("model_input/timestep", k)].tensor = torch.full((1, 4), TIMESTEPS[k] * 0.9) * tokens
    assert [c.id for c in explain(finding(lab, "model_input/timestep"), lab)] != ["per-token-timestep"]


def started_at(*levels, **more):
    noise, picture = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    traces = []
    for level in levels:
        made = Trace()
        known = {"initial_noise": noise, "sigmas": torch.linspace(1, 0, 11), "initial_latents": (1 - level) * picture + level * noise}
        for probe, tensor in (known | ({"image_latents": picture} if more else {})).items():
            made.add(Event(Place(probe), tensor))
        traces.append(made)
    lab = lab_of(*traces)
    return explain(finding(lab, "initial_latents"), lab)


def test_starting_levels_of_two_readings_of_strength_are_solved_from_the_first_latents():
    (cause,) = started_at(0.6, 0.8, picture=True)
    assert cause.id == "img2img-strength-meaning"
    assert (cause.relation["index_reference"], cause.relation["index_candidate"]) == (4, 2)


def test_without_the_picture_the_reading_of_strength_is_named_without_levels_that_nothing_settles():
    (cause,) = started_at(0.6, 0.8)
    assert cause.id == "img2img-strength-meaning" and "index_reference" not in cause.relation
    assert cause.relation["mix"] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_a_starting_level_that_no_entry_of_the_schedule_has_is_no_reading_of_strength():
    assert "img2img-strength-meaning" not in [c.id for c in started_at(0.6, 0.777, picture=True)]


def test_the_formula_of_betas_is_solved_with_its_end_points():
    for formula in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"):
        for zero in (False, True):
            bar = alphas_cumprod(formula, 1000, 0.00085, 0.012, zero).astype("float32")
            fit = solve_betas(bar)
            assert (fit.formula, fit.zero_snr) == (formula, zero)
            assert formula == "squaredcos_cap_v2" or (fit.start, fit.end) == (0.00085, 0.012)
    assert solve_betas(torch.linspace(1, 0.5, 1000).numpy()) is None
