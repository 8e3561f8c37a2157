"""What stands out from a list, and how rarely chance does."""

import numpy as np
import pytest

from whydiff.measure.outliers import limit_by_chance, outlying


@pytest.mark.parametrize("count", [6, 12, 27, 50])
def test_lists_of_chance_alone_rarely_have_one(count):
    draws = np.random.default_rng(7).normal(20, 0.3, (4000, count))
    assert sum(bool(outlying(draw).indices) for draw in draws) <= 16  # 4 expected, at 1 in 1000


def test_a_spike_and_a_dip_stand_out_and_are_placed():
    values = np.random.default_rng(0).normal(20, 0.3, 27)
    values[9], values[20] = 50, 3
    assert outlying(values).indices == (9, 20)
    assert outlying(values).middle == pytest.approx(20, abs=0.3)


def test_what_rounding_allows_does_not_stand_out():
    values = [20] * 20 + [19, 21]
    assert outlying(values).indices == (20, 21)
    assert outlying(values, errors=0.5).indices == ()


def test_short_lists_have_no_outliers_and_longer_ones_a_closer_limit():
    assert outlying([1, 1, 1, 99]).indices == () and outlying([]).indices == ()
    assert limit_by_chance(10) > limit_by_chance(30) > limit_by_chance(100) > 4
