"""Which settings put the change of experts at a step: bisection against a scan, and the figures measured on each framework."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from whydiff.errors import Trouble
from whydiff.formulas.schedule import GRIDS
from whydiff.formulas.schedule_switch import boundaries_for_switch, solve_switch, steps_for_switch, switch_of

CASES = {"steps": st.integers(2, 60), "boundary": st.floats(0.3, 0.98), "grid": st.sampled_from(sorted(GRIDS))}


@settings(max_examples=60, deadline=None)
@given(**CASES, shift=st.floats(0.3, 20))
def test_the_interval_of_a_switch_holds_the_shift_that_made_it(steps, boundary, grid, shift):
    [interval] = solve_switch(steps, boundary, switch_of(shift, steps, boundary, grid), grid)
    assert interval.low * (1 - 1e-9) <= shift < interval.high * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(**CASES, data=st.data())
def test_a_scan_finds_the_interval_that_bisection_finds(steps, boundary, grid, data):
    switch = data.draw(st.integers(1, steps - 1))
    found = solve_switch(steps, boundary, switch, grid)
    assume(found and found[0].high < 100 and found[0].low > 0.02)
    scan = np.geomspace(found[0].low / 1.3, found[0].high * 1.3, 400)
    inside = [shift for shift in scan if switch_of(shift, steps, boundary, grid) == switch]
    assert all(found[0].low * (1 - 1e-9) <= shift <= found[0].high * (1 + 1e-9) for shift in inside)
    missed = [s for s in scan if found[0].low * (1 + 1e-9) < s < found[0].high * (1 - 1e-9) and s not in set(inside)]
    assert not missed


def test_intervals_of_one_grid_meet_and_cover_all_shifts():
    for grid in GRIDS:
        intervals = [i for switch in range(28) for i in solve_switch(27, 0.875, switch, grid)]
        assert intervals[0].low == 0 and intervals[-1].high == float("inf")
        assert all(a.high == b.low for a, b in zip(intervals, intervals[1:], strict=False))


@pytest.mark.parametrize(("grid", "low", "high"), [
    ("flow_unipc", 2.95074, 3.50300), ("unipc_0.36", 2.95733, 3.51051), ("unipc", 2.94318, 3.49475),
    ("flow_match_euler", 3.09724, 3.68509),
])  # fmt: skip
def test_the_intervals_measured_on_each_frameworks_scheduler(grid, low, high):
    """facts, flux_wan.md B2: 27 steps, boundary 0.875, switch at index 9."""
    [interval] = solve_switch(27, 0.875, 9, grid)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=6e-6), pytest.approx(high, abs=6e-6))


def test_the_numbers_of_steps_and_the_boundary_that_would_do_it():
    """facts, flux_wan.md B2."""
    expected = {3.0: [27, 28, 29, 30], 5.0: [20, 21], 7.0: [17, 18], 8.0: [16], 12.0: [13, 14]}
    assert {shift: steps_for_switch(shift, 0.875, 9, "flow_unipc") for shift in expected} == expected
    assert boundaries_for_switch(12.0, 27, 9, "flow_unipc") == (0.959, 0.966)
    with pytest.raises(Trouble, match="0 to 27"):
        boundaries_for_switch(12.0, 27, 28)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 20), st.integers(2, 60), st.sampled_from(sorted(GRIDS)), st.data())
def test_a_boundary_inside_the_range_switches_there_and_its_lower_end_does_not(shift, steps, grid, data):
    switch = data.draw(st.integers(1, steps - 1))
    limits = boundaries_for_switch(shift, steps, switch, grid)
    assume(limits is not None and limits[1] - limits[0] > 1e-6)
    assert switch_of(shift, steps, limits[1], grid) == switch
    assert switch_of(shift, steps, (limits[0] + limits[1]) / 2, grid) == switch
    assert switch_of(shift, steps, limits[0], grid) > switch
