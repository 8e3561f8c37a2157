"""What a perfect flow looks like on average, against a simulated one."""

import numpy as np
import pytest

from whydiff.formulas.expectations import flow_std, largest_of_normals, lowest_std_at, velocity_cosine, wrong_scale_error


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.92])
@pytest.mark.parametrize("std", [0.7, 1.0])
def test_spread_and_cosine_are_those_of_simulated_latents(sigma, std):
    noise, data = np.random.default_rng(0).standard_normal((2, 400_000))
    x = sigma * noise + (1 - sigma) * std * data
    v = noise - std * data
    assert x.std() == pytest.approx(float(flow_std(sigma, std)), rel=0.01)
    assert np.corrcoef(x, v)[0, 1] == pytest.approx(float(velocity_cosine(sigma, std)), abs=0.01)


def test_the_spread_rises_again_after_its_minimum():
    lowest = lowest_std_at(0.8)
    assert flow_std(lowest, 0.8) < min(flow_std(lowest - 0.05, 0.8), flow_std(lowest + 0.05, 0.8))
    assert velocity_cosine(lowest, 0.8) == pytest.approx(0.0, abs=1e-12)


def test_the_largest_of_many_normals_is_beyond_any_range_of_two():
    sample = np.abs(np.random.default_rng(0).standard_normal((400, 1000))).max(1)
    assert np.median(sample) == pytest.approx(largest_of_normals(1000), rel=0.02)
    assert largest_of_normals(2_400_000) > 5


def test_the_right_scale_has_no_error_and_a_wrong_one_has():
    assert wrong_scale_error(0.5, [0.0, 0.0], [2.0, 2.0])[0] == 0.0
    error, channels = wrong_scale_error(0.18215, [0.5], [1.5])
    assert error > 1 and channels[0] == pytest.approx(1 / (0.18215 * 1.5))
