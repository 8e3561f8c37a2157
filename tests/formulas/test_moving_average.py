"""A progress bar's moving average, forwards (against tqdm itself) and backwards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm.std import EMA

from whydiff.errors import Trouble
from whydiff.formulas.moving_average import smoothed, step_behind, unsmoothed

TIMES = st.lists(st.floats(0.01, 300), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.floats(0.05, 1))
def test_the_average_is_tqdms_own(times, smoothing):
    seconds, steps = EMA(smoothing), EMA(smoothing)
    assert np.allclose(smoothed(times, smoothing), [seconds(time) / steps(1) for time in times], rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.floats(0.05, 1), st.data())
def test_unsmoothing_undoes_smoothing_whatever_number_of_steps_an_update_adds(times, smoothing, data):
    counts = np.cumsum(data.draw(st.lists(st.integers(1, 5), min_size=len(times), max_size=len(times))))
    per_step = np.asarray(times) / np.diff(counts, prepend=0)
    assert np.allclose(unsmoothed(smoothed(times, smoothing, counts), smoothing, counts)[0], per_step, rtol=1e-6, atol=1e-6)


def test_no_smoothing_is_the_mean_since_the_start():
    assert np.allclose(smoothed([1, 2, 6], 0), [1, 1.5, 3])
    assert np.allclose(unsmoothed([1, 1.5, 3], 0)[0], [1, 2, 6])


@settings(max_examples=60, deadline=None)
@given(TIMES)
def test_rounding_never_costs_more_than_is_said(times):
    seconds, errors = unsmoothed(np.round(smoothed(times), 2), resolution=0.005)
    assert (np.abs(seconds - times) <= errors + 1e-9).all()
    assert errors.max() <= 0.005 * (2 - 0.3) / 0.3 + 1e-12


def test_one_value_of_a_bar_is_a_longer_step_than_it_looks_and_the_first_step_is_remembered():
    """Wan2.2, job 1434114: 29.8 s/it at tqdm step 10, 21 otherwise; 45.9 s for a first step of 110 s (facts, flux_wan.md B5)."""
    assert step_behind(29.8, [21.0] * 9) == pytest.approx(49.5, abs=0.01)
    assert step_behind(29.8, [110.0] + [21.0] * 8) == pytest.approx(45.9, abs=0.02)
    assert step_behind(30.0, []) == pytest.approx(30.0)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: smoothed([1.0], 1.5), "between 0 and 1"), (lambda: smoothed([float("nan")]), "numbers"),
    (lambda: unsmoothed([1.0, 2.0], counts=[2, 2]), "rising"),
])  # fmt: skip
def test_bad_input_is_one_line(call, words):
    with pytest.raises(Trouble, match=words):
        call()
