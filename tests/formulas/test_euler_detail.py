"""What a list of noise levels lets through, by laws and against a simulation."""

import pytest
import torch

from whydiff.formulas.euler_detail import as_stored, kept_amplitude, undecided

OFFICIAL = [1.0, 0.859375, 0.73046875, 0.3203125, 0.0]
THREE = [1.0, 0.94921875, 0.83984375, 0.0]


def test_many_steps_keep_all_detail():
    fine = torch.linspace(1, 0, 20001, dtype=torch.float64).tolist()
    for detail in (0.3, 1.0, 2.0):
        assert kept_amplitude(fine, detail) == pytest.approx(1, abs=0.01)


def test_one_step_returns_the_mean():
    assert kept_amplitude([1.0, 0.0], 0.5) == 0
    assert undecided([1.0, 0.0]) == 1


@pytest.mark.parametrize("sigmas, kept", [(OFFICIAL, (0.204, 0.480, 0.626)), (THREE, (0.019, 0.057, 0.185))])
def test_the_published_shares_are_computed(sigmas, kept):
    assert [kept_amplitude(sigmas, a) for a in (0.1, 0.3, 1.0)] == pytest.approx(kept, abs=2e-3)  # simulated there


def test_the_closed_form_is_what_samples_do():
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for now, after in zip(OFFICIAL, OFFICIAL[1:]):
        clean = x * (1 - now) * 0.09 / (now**2 + (1 - now) ** 2 * 0.09)  # E[x0 | x]
        x = x + (after - now) * (x - clean) / now
    assert x.std().item() / 0.3 == pytest.approx(kept_amplitude(OFFICIAL, 0.3), rel=0.01)


def test_a_last_jump_of_084_leaves_almost_all_between_the_modes():
    assert undecided(THREE) > 0.9 > 0.3 > undecided(OFFICIAL)


def test_the_digits_of_the_readme_are_the_official_list_in_bfloat16():
    config = [1.0, 0.8609585762023926, 0.729332447052002, 0.3205108940601349, 0.0]
    assert as_stored([1.0, 0.8611363, 0.7293324, 0.3207127, 0.0]) == as_stored(config) == OFFICIAL
