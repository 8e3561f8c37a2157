"""What a verdict says of noise that nothing controls, of files that lose detail, and of settings alone."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

import whydiff
from whydiff import Trouble, tap
from whydiff.evidence.case import make_case
from whydiff.evidence.surroundings.fingerprint import fingerprint

CALL = {"prompt": "a circle", "seed": 3}


def picture(noise):
    latents = tap("initial_noise", noise)
    return torch.sigmoid(torch.nn.functional.interpolate(latents, scale_factor=8, mode="bilinear")[:, :3].movedim(1, -1))


def seeded(prompt="", seed=0):
    return picture(torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed)))


def by_chance(prompt="", seed=0):
    return picture(torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "little"))))


@pytest.mark.parametrize("sides", [(seeded, by_chance), (by_chance, seeded)])
def test_initial_noise_drawn_by_chance_is_a_difference_and_no_floor(sides):
    verdict = whydiff.diagnose(reference=sides[0], candidate=sides[1], call=CALL)
    assert (verdict.verdict, verdict.first_divergence["probe"]) == ("different", "initial_noise")


@pytest.mark.parametrize(("draw", "library"), [
    (lambda: torch.randn(1, 4, 8, 12), "torch"),
    (lambda: torch.from_numpy(np.random.standard_normal((1, 4, 8, 12))).float(), "numpy"),
])  # fmt: skip
def test_noise_from_a_global_generator_is_reported_as_such(draw, library):
    def side(prompt="", seed=0):
        return picture(draw())

    verdict = whydiff.diagnose(reference=seeded, candidate=side, call=CALL)
    assert verdict.verdict == "different"
    assert any(f"candidate draws from the global generator of {library}" in note for note in verdict.notes)


def test_a_side_that_seeds_the_global_generator_with_the_calls_seed_draws_what_the_call_decides():
    def side(prompt="", seed=0):
        torch.manual_seed(seed)
        return picture(1.01 * torch.randn(1, 4, 8, 12))

    verdict = whydiff.diagnose(reference=seeded, candidate=side, call=CALL)
    assert verdict.verdict == "different" and not any("global generator" in note for note in verdict.notes)


def test_equal_values_that_are_not_finite_are_no_sign_of_chance():
    def side(prompt="", seed=0):
        tap("decoded", torch.full((2,), float("nan")))
        return seeded(prompt, seed)

    assert not any("deterministic" in note for note in whydiff.diagnose(reference=seeded, candidate=side, call=CALL).notes)


def test_equal_settings_alone_are_vacuous():
    case = make_case({"reference": {"settings": {"height": 48}}, "candidate": {"settings": {"height": 48}}})
    assert whydiff.diagnose(case).verdict == "vacuous"


def test_a_jpeg_of_the_same_image_is_a_cause_and_one_of_another_image_is_not(tmp_path):
    for name, seed, options in (("a.png", 0, {}), ("a.jpg", 0, {"quality": 60}), ("b.jpg", 1, {"quality": 60})):
        pixels = (seeded(seed=seed)[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / name, **options)

    def causes(one, other):
        case = make_case({"reference": {"image": str(tmp_path / one)}, "candidate": {"image": str(tmp_path / other)}})
        return [(cause.id, cause.departs) for cause in whydiff.diagnose(case).causes]

    assert causes("a.png", "a.jpg") == [("lossy-image-format", "candidate")]
    assert causes("a.jpg", "a.png") == [("lossy-image-format", "reference")]
    assert causes("a.png", "b.jpg") == []


def test_another_batch_is_one_cause_at_the_settings():
    def side(prompt="", seed=0, num_images_per_prompt=1):
        shape = (num_images_per_prompt, 4, 8, 12)
        return picture(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    verdict = whydiff.diagnose(reference=side, candidate=side, call={"reference": CALL, "candidate": CALL | {"num_images_per_prompt": 2}})
    assert [cause.id for cause in verdict.causes] == ["batch-size"] and not verdict.unexplained
    assert (verdict.first_divergence["stage"], verdict.first_divergence["probe"]) == ("parameters", "settings")


def test_a_side_that_closes_over_a_python_module_has_a_fingerprint():
    def side():
        return os.getpid() and np.zeros(1) is not None and torch.zeros(1)

    assert fingerprint(side) == fingerprint(side)

    def closing(modules=(os, np, torch)):
        return lambda: modules

    assert fingerprint(closing()) == fingerprint(closing())


def test_a_side_that_exits_or_is_given_no_number_as_seed_is_trouble():
    def leaving(prompt="", seed=0):
        raise SystemExit("bye")

    with pytest.raises(Trouble, match="raised SystemExit: bye"):
        whydiff.diagnose(reference=seeded, candidate=leaving, call=CALL)

    def drawn(prompt="", generator=None):
        return picture(torch.randn(1, 4, 8, 12, generator=generator))

    with pytest.raises(Trouble, match="call.seed is 'three'"):
        whydiff.diagnose(reference=drawn, candidate=seeded, call={"seed": "three"})
