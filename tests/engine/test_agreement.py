"""What agreement is worth, and what a toy pipeline's disagreements are called. Every side here runs in milliseconds."""

import threading

import pytest
import torch

import whydiff
from whydiff import Trouble, tap

CALL = {"prompt": "a circle", "seed": 0}


def sampler(prompt="", seed=0, noise_scale=1.0, end=1.0, sign=1.0):
    """A few lines of flow matching: (1, 4, 8, 12) noise, three Euler steps, an image."""
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed)) * noise_scale
    latents = tap("initial_noise", noise)
    sigmas = tap("sigmas", torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]) * end)
    for i in range(3):
        noise_pred = tap("noise_pred", torch.tanh(latents) * sign, step=i)
        latents = tap("latents", latents + (sigmas[i + 1] - sigmas[i]) * noise_pred, step=i)
    return (latents[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2


def same_numbers(prompt="", seed=0):
    return sampler(prompt, seed)


def reversed_sign(prompt="", seed=0):
    return sampler(prompt, seed, sign=-1.0)


def diagnose(reference, candidate, **kwargs):
    return whydiff.diagnose(reference=reference, candidate=candidate, call=kwargs.pop("call", CALL), **kwargs)


def test_other_code_with_the_same_bits_is_the_same():
    assert diagnose(sampler, same_numbers).verdict == "same"


def test_a_thing_against_itself_is_vacuous():
    verdict = diagnose(sampler, sampler)
    assert verdict.verdict == "vacuous" and verdict.exit_status == 2


def test_two_copies_of_one_class_are_vacuous_and_another_attribute_is_not():
    class Side:
        def __init__(self, end):
            self.end = end

        def __call__(self, prompt="", seed=0):
            return sampler(prompt, seed, end=self.end)

    assert diagnose(Side(1.0), Side(1.0)).verdict == "vacuous"
    assert diagnose(Side(1.0), Side(0.5)).verdict == "different"


def test_twins_whose_tensors_differ_are_not_vacuous():
    """Something that no look at code and attributes shows differs, so that agreement to the noise does prove something."""
    hidden = threading.local()
    hidden.scales = {}

    class Side:
        def __call__(self, prompt="", seed=0):
            return sampler(prompt, seed, noise_scale=hidden.scales[id(self)])

    one, other = Side(), Side()
    hidden.scales |= {id(one): 1.0, id(other): 1.0}
    assert diagnose(one, other).verdict == "vacuous"
    hidden.scales[id(other)] += 2e-7
    assert diagnose(one, other).verdict == "within_noise"


def test_closures_over_different_values_are_not_the_same_thing():
    def make(value):
        def side(prompt="", seed=0):
            return sampler(prompt, seed) if value >= 0 else sampler(prompt, seed)

        return side

    assert diagnose(make(1), make(2)).verdict == "same"
    assert diagnose(make(1), make(1)).verdict == "vacuous"


def test_a_reversed_sign_is_named_with_its_whole_share_of_the_image():
    verdict = diagnose(sampler, reversed_sign)
    (cause,) = verdict.causes
    assert cause.id == "velocity-sign"
    assert cause.image_effect == pytest.approx(1.0)
    assert verdict.first_divergence["probe"] == "noise_pred"


def test_noise_scaled_by_a_factor_is_named():
    def scaled(prompt="", seed=0):
        return sampler(prompt, seed, noise_scale=14.6146)

    assert [cause.id for cause in diagnose(sampler, scaled).causes] == ["init-noise-sigma-missing"]


def test_what_no_experiment_explains_is_said_to_be_unexplained_here():
    def odd(prompt="", seed=0):
        latents = tap("initial_noise", torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed)))
        tap("sigmas", torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]))
        for i in range(3):
            noise_pred = tap("noise_pred", torch.tanh(latents) + 0.01 * latents.square(), step=i)
            latents = tap("latents", latents - noise_pred / 3, step=i)
        return (latents[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2

    verdict = diagnose(sampler, odd)
    assert verdict.causes == []
    assert [(entry["probe"], entry["step"]) for entry in verdict.unexplained] == [("noise_pred", 0)]


def test_state_that_leaks_from_run_to_run_is_found_although_the_first_runs_agree():
    class Leaky:
        drift = 0.0

        def __call__(self, prompt="", seed=0):
            self.drift += 0.01 * (prompt != "a circle")
            return sampler(prompt, seed) + self.drift

    def image_only(prompt="", seed=0):
        return sampler(prompt, seed)

    verdict = diagnose(image_only, Leaky())
    assert verdict.verdict == "different"
    assert [entry["stage"] for entry in verdict.unexplained] == ["state_leakage"]


def test_a_candidate_that_differs_from_itself_is_not_blamed_for_that_much():
    generator = torch.Generator().manual_seed(0)

    def restless(prompt="", seed=0):
        return sampler(prompt, seed) + 1e-4 * torch.rand(1, generator=generator)

    def image_only(prompt="", seed=0):
        return sampler(prompt, seed)

    verdict = diagnose(image_only, restless)
    assert verdict.verdict == "within_noise"
    assert "not deterministic" in verdict.notes[0]


def test_a_tap_whose_result_is_dropped_is_said_not_to_repair():
    def observed(prompt="", seed=0):
        latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed + 5))
        tap("initial_noise", latents)
        tap("sigmas", torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]))
        for i in range(3):
            noise_pred = tap("noise_pred", torch.tanh(latents), step=i)
            latents = latents - noise_pred / 3
            tap("latents", latents, step=i)
        return (latents[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2

    verdict = diagnose(sampler, observed)
    assert verdict.verdict == "different"
    assert any("does not repair" in note for note in verdict.notes)


def test_values_that_are_not_finite_never_agree():
    def broken(prompt="", seed=0):
        return sampler(prompt, seed, noise_scale=float("nan"))

    verdict = diagnose(sampler, broken)
    assert verdict.verdict == "different"
    assert "not finite" in verdict.unexplained[0]["why"]


def test_another_seed_is_found_and_the_side_that_departs_is_left_open():
    verdict = diagnose(sampler, same_numbers, call={"reference": CALL, "candidate": CALL | {"seed": 7}})
    (cause,) = verdict.causes
    assert (cause.id, cause.relation["reference"], cause.relation["candidate"]) == ("seed", 0, 7)


def test_assert_same_passes_on_agreement_and_raises_the_verdicts_own_words():
    whydiff.assert_same(reference=sampler, candidate=same_numbers, call=CALL)
    with pytest.raises(AssertionError, match="velocity-sign"):
        whydiff.assert_same(reference=sampler, candidate=reversed_sign, call=CALL)


def test_a_side_that_raises_is_trouble_with_its_line():
    def broken(prompt="", seed=0):
        raise ValueError("no such kernel")

    with pytest.raises(Trouble, match=r"candidate \(broken\) raised ValueError: no such kernel \(test_agreement.py, line \d+"):
        diagnose(sampler, broken)


def test_a_seed_that_cannot_reach_a_side_is_trouble():
    def seedless(prompt=""):
        return torch.zeros(1, 8, 12, 3)

    with pytest.raises(Trouble, match="neither `seed` nor `generator`"):
        diagnose(sampler, seedless)


def test_a_verdict_shows_itself_and_saves_itself(tmp_path):
    verdict = diagnose(sampler, reversed_sign)
    assert "velocity-sign" in verdict._repr_markdown_()
    path = verdict.save(tmp_path / "out")
    assert path.name == "verdict.json" and '"schema": 1' in path.read_text()
    assert "e-0" not in verdict.words()
