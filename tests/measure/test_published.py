"""Four published figures: the formulas against simulation, and what they say of a real note's figures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff import Trouble
from whydiff.measure.published import Figure, Published, figures_of, monte_carlo, normal_pairs
from whydiff.measure.published_families import judge, normal_family, usual_families

NOTE = ("5.94", "1.09", "8.26e4", "8.62", [1, 16, 1, 147, 110])  # the note on Qwen-Image
rhos, ratios = st.floats(-0.8, 0.9), st.floats(0.5, 2.5)


def of(elements: int, max_rel="300") -> Published:
    return Published.read("4", "1", max_rel, "3", [elements])


@settings(max_examples=12, deadline=None)
@given(rho=rhos, q=ratios, seed=st.integers(0, 10**6))
def test_the_mean_of_simulated_differences_lies_within_its_standard_error(rho, q, seed):
    n, draws = 20_000, 8
    drawn = monte_carlo(normal_pairs(n, draws, rho, q, seed=seed))
    mean, deviation = of(n).mean_of(1.0, rho, q)
    assert abs(drawn.mean_abs.mean() - mean) < 5 * deviation / math.sqrt(draws)


@settings(max_examples=8, deadline=None)
@given(rho=rhos, q=ratios, seed=st.integers(0, 10**6))
def test_the_mean_ratio_given_its_maximum_is_that_of_the_values_below_it(rho, q, seed):
    n = 400_000
    [(e, a)] = normal_pairs(n, 1, rho, q, seed=seed)
    rel = np.abs(e - a) / np.abs(e)
    below = rel[rel < 300]
    mean, deviation, skewness = of(n).mean_ratio(rho, q)
    assert abs(below.mean() - (mean - 300 / n)) < 5 * below.std() / math.sqrt(below.size)
    assert 0 < deviation < 0.1 and skewness > 0


@settings(max_examples=6, deadline=None)
@given(rho=rhos, q=ratios, seed=st.integers(0, 10**6))
def test_the_share_of_draws_with_a_smaller_maximum_is_the_predicted_one(rho, q, seed):
    n, draws = 2_000, 300
    drawn = monte_carlo(normal_pairs(n, draws, rho, q, seed=seed))
    p = of(n, "2000").largest_ratio(rho, q)
    assert abs((drawn.max_rel <= 2000).mean() - p) < 5 * math.sqrt(p * (1 - p) / draws) + 0.01


def test_the_notes_figures_fix_the_spread_and_exclude_two_unit_normals():
    published = Published.read(*NOTE)
    assert published.elements == 258_720
    assert published.spread.value == pytest.approx(0.966, abs=5e-4)
    assert 18 < published.errors_away() < 22
    assert published.errors_away(0.966) == 0.0
    assert published.correlation(1.0) == pytest.approx(0.067, abs=1e-3)
    assert published.largest_given_mean() == pytest.approx(0.029, abs=1e-3)


def test_the_notes_ratios_fix_gamma_and_leave_rho_open():
    published = Published.read(*NOTE)
    low, high = published.scale_free(correlations=[0.0])
    assert (low, high) == pytest.approx((1.0, 1.25), abs=0.02)
    assert published.ratio_tail(0.6, 1.0) < 1e-3  # at equal spread no correlation of 0.6
    assert 0.05 < published.ratio_tail(0.6, 1.5) < 0.95  # with other spreads there is


def test_another_mean_changes_what_is_excluded():
    assert Published.read("5.94", "1.13", *NOTE[2:]).errors_away() == 0.0
    assert Published.read("5.94", "1.09", "8.26e4", "3.2", NOTE[4]).ratio_tail(0.0, 1.0) > 0.99


def test_a_missing_unnormalisation_on_one_side_is_excluded_and_independent_latents_are_not():
    mean, std = np.linspace(-0.95, 1.55, 16), np.linspace(1.13, 3.27, 16)
    found = {j.name: j for j in (judge(Published.read(*NOTE), f, NOTE[4], draws=5) for f in usual_families(mean, std)
                                 if "alone" in f.name or "smooth latents, independent" in f.name or "two noises" in f.name)}  # fmt: skip
    assert all(j.excluded for name, j in found.items() if "alone" in name or "two noises" in name)
    assert not found["smooth latents, independent"].excluded


def test_a_family_that_made_the_figures_is_compatible():
    shape = [1, 4, 40, 40]
    [(e, a)] = normal_pairs(6400, 1, 0.3, 1.2, seed=3)
    figures = [f"{x:.3g}" for x in figures_of(e, a)]
    assert judge(Published.read(*figures, shape), normal_family("its own", 0.3, 1.2), shape, draws=12).words == "compatible"


@pytest.mark.parametrize("text, low, high", [("1.09", 1.085, 1.095), ("8.26e4", 82550, 82650), ("5", 4.5, 5.5), (1.5, 1.45, 1.55)])
def test_a_printed_figure_is_the_interval_that_rounds_to_it(text, low, high):
    figure = Figure.read(text)
    assert (figure.low, figure.high) == pytest.approx((low, high))


@pytest.mark.parametrize("arguments, message", [
    (("-1", "1", "1", "1", [4]), "max_abs is '-1'"),
    (("nan", "1", "1", "1", [4]), "not negative"),
    (("1", "2", "9", "1", [4]), "contradict"),
    (("99", "1", "9", "1", [4]), "contradict"),
    (("1", "1", "1", "1", []), "shape is"),
    (("1", "1", "1", "1", [4, 0]), "shape is"),
])  # fmt: skip
def test_impossible_figures_are_refused_in_one_line(arguments, message):
    with pytest.raises(Trouble, match=message) as error:
        Published.read(*arguments)
    assert "\n" not in str(error.value)
