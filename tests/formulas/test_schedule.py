"""Schedules forwards (against diffusers and the measured figures) and backwards (from sigmas to settings)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.errors import Trouble
from whydiff.formulas import schedule as S
from whydiff.formulas.schedule_solve import solve_schedule, solve_switch

SHIFTS = st.floats(0.2, 20)
FLUX = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096, "shift": 3.0}


@settings(max_examples=40, deadline=None)
@given(SHIFTS, SHIFTS, st.integers(1, 60))
def test_shifting_twice_multiplies_the_shifts(a, b, n):
    grid = S.linear_grid(n)
    assert np.allclose(S.shift_sigmas(S.shift_sigmas(grid, a), b), S.shift_sigmas(grid, a * b), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SHIFTS, st.integers(1, 60))
def test_unshifting_undoes_shifting(shift, n):
    grid = S.linear_grid(n)
    assert np.allclose(S.unshift_sigmas(S.shift_sigmas(grid, shift), shift), grid, rtol=1e-12)


def test_mu_is_the_logarithm_of_the_shift_and_linear_in_the_tokens():
    assert S.mu_from_shift(S.shift_from_mu(1.15)) == pytest.approx(1.15)
    for tokens, mu in ((3600, 1.066042), (4096, 1.15), (1024, 0.63), (14400, 2.894167), (16384, 3.23)):
        assert S.mu_from_tokens(tokens) == pytest.approx(mu, abs=5e-7)
        assert S.tokens_from_mu(S.mu_from_tokens(tokens)) == pytest.approx(tokens)


def test_shifts_keep_the_type_they_are_given():
    assert isinstance(S.shift_sigmas(0.5, 3.0), float)
    assert isinstance(S.shift_sigmas(torch.ones(2), 3.0), torch.Tensor)


@pytest.mark.parametrize(("sigmas", "figures"), [
    (S.flow_euler_sigmas(50, mu=S.mu_from_tokens(3600)), (0.9019, 0.7438, 0.5050, 0.05595)),
    (S.flow_euler_sigmas(50, mu=S.mu_from_tokens(14400)), (0.9828, 0.9476, 0.8639, 0.26940)),
    (S.grid_sigmas("thousandth", 50, math.exp(S.mu_from_tokens(3600))), (0.8997, 0.7364, 0.4860, 0.00290)),
    (S.grid_sigmas("flow_match_euler", 50, 3.0), (0.9028, 0.7434, 0.4962, 0.00893)),
])
def test_flux_figures_of_the_fact_table(sigmas, figures):
    assert sigmas[[12, 25, 37, 49]] == pytest.approx(figures, abs=5e-5)


@pytest.mark.parametrize("n", [5, 27, 40])
@pytest.mark.parametrize("shift", [1.0, 3.0, 12.0])
def test_grids_are_those_of_the_installed_schedulers(n, shift):
    diffusers = pytest.importorskip("diffusers")
    euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    euler.set_timesteps(n)
    assert np.allclose(euler.sigmas.numpy(), S.grid_sigmas("flow_match_euler", n, shift, terminal=True), atol=1e-6)
    euler.set_timesteps(sigmas=list(S.linear_grid(n)))
    assert np.allclose(euler.sigmas.numpy(), S.flow_euler_sigmas(n, shift, terminal=True), atol=1e-6)
    unipc = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift)
    unipc.set_timesteps(n)
    ours = S.wan_unipc_sigmas(n, shift, diffusers.__version__, terminal=True)
    assert np.allclose(unipc.sigmas.numpy(), ours, atol=1e-6)
    assert np.array_equal(unipc.timesteps.numpy(), S.timesteps_from_sigmas(ours[:-1], integer=True))


def test_unipc_timesteps_before_and_after_diffusers_0_37():
    def timesteps(shift, version):
        return S.timesteps_from_sigmas(S.wan_unipc_sigmas(27, shift, version), integer=True)

    assert timesteps(12, "0.42.1")[-1] == 321 and timesteps(12, "0.36.0")[-1] == 315
    assert list(timesteps(3, "0.42.1")[:3]) == [999, 987, 974] and list(timesteps(3, "0.36.0")[:3]) == [999, 987, 973]
    with pytest.raises(Trouble, match="unknown version"):
        S.wan_unipc_sigmas(27, 3, "newest")


@pytest.mark.parametrize(("shift", "index"), [(1, 4), (3, 9), (5, 12), (7, 14), (8, 15), (12, 18), (16, 19)])
def test_the_switch_of_wan22_by_shift(shift, index):
    sigmas = S.wan_unipc_sigmas(27, shift, "sglang")
    assert S.switch_step(S.timesteps_from_sigmas(sigmas, integer=True), 0.875) == index
    assert S.switch_step(sigmas, 0.875) == index


@pytest.mark.parametrize(("grid", "nine", "eighteen"), [
    ("flow_unipc", (2.95074, 3.50300), (11.90159, 14.00150)),
    ("unipc_0.36", (2.95733, 3.51051), (11.91892, 14.02102)),
    ("unipc", (2.94318, 3.49475), (11.86792, 13.95808)),
    ("flow_match_euler", (3.09724, 3.68509), (12.75198, 15.01641)),
])
def test_the_shift_intervals_of_the_fact_table(grid, nine, eighteen):
    for switch, expected in ((9, nine), (18, eighteen)):
        (found,) = solve_switch(27, 0.875, switch, grid)
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


def test_switch_at_nine_means_shift_three_and_at_eighteen_twelve():
    assert 3.0 in solve_switch(27, 0.875, 9)[0] and 12.0 not in solve_switch(27, 0.875, 9)[0]
    assert 12.0 in solve_switch(27, 0.875, 18)[0]
    assert [i.grid for i in solve_switch(27, 0.875, 9, None) if 3.0 in i] == ["trailing", "unipc", "unipc_0.36",
                                                                              "flow_unipc"]
    with pytest.raises(Trouble, match="from 0 to 27"):
        solve_switch(27, 0.875, 28)


@settings(max_examples=20, deadline=None)
@given(SHIFTS, st.sampled_from(sorted(S.GRIDS)), st.integers(4, 50))
def test_every_interval_contains_the_shift_that_made_the_switch(shift, grid, n):
    sigmas = S.grid_sigmas(grid, n, shift)
    if np.abs(sigmas - 0.875).min() < 1e-5:
        return
    switch = S.switch_step(sigmas, 0.875)
    assert shift in solve_switch(n, 0.875, switch, grid)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", sorted(S.GRIDS))
@pytest.mark.parametrize(("n", "shift"), [(12, 3.0), (27, 12.0), (50, 2.904), (4, 5.0)])
def test_a_planted_schedule_is_solved(dtype, grid, n, shift):
    best = solve_schedule(torch.tensor(S.grid_sigmas(grid, n, shift, terminal=True), dtype=dtype))[0]
    assert best.explains and best.terminal and best.shift == pytest.approx(shift, rel=1e-5)
    assert best.grid == grid and best.steps == n and best.residual < 1e-6


def test_dynamic_shift_is_explained_by_the_tokens():
    sigmas = torch.tensor(S.flow_euler_sigmas(50, mu=S.mu_from_tokens(3600)), dtype=torch.float32)
    best = solve_schedule(sigmas, tokens=3600, config=FLUX)[0]
    assert best.free == 0 and best.parameters["tokens"] == 3600 and best.grid == "trailing"


def test_four_times_the_tokens_are_recognised():
    """sgl-project/sglang#21041: mu from the tokens before 2x2 packing."""
    sigmas = torch.tensor(S.flow_euler_sigmas(50, mu=S.mu_from_tokens(14400)), dtype=torch.float32)
    best = solve_schedule(sigmas, tokens=3600, config=FLUX)[0]
    assert best.parameters["tokens_ratio"] == 4 and best.parameters["tokens"] == 14400
    assert "4 times" in str(best)


def test_the_shift_of_the_config_costs_nothing():
    sigmas = S.flow_euler_sigmas(12, 3.0)
    assert solve_schedule(sigmas, config=FLUX)[0].free == 0
    assert solve_schedule(sigmas)[0].free == 1
    assert solve_schedule(S.linear_grid(12))[0].free == 0


def test_shift_and_end_point_unknown_at_once_are_found():
    sigmas = S.shift_sigmas(S.linear_grid(20, 1.0, 0.02), 4.5)
    best = solve_schedule(sigmas)[0]
    assert best.grid == "linear" and best.shift == pytest.approx(4.5) and best.parameters["last"] == 0.02
    both = solve_schedule(S.shift_sigmas(S.linear_grid(20, 0.97, 0.0123), 2.2))[0]
    assert both.explains and both.parameters["first"] == pytest.approx(0.97, rel=1e-4)


def test_a_stretched_end_is_found():
    sigmas = S.stretch_to_terminal(S.flow_euler_sigmas(30, mu=1.3), 0.1)
    best = solve_schedule(sigmas, config={"shift_terminal": 0.1})[0]
    assert best.parameters["shift_terminal"] == pytest.approx(0.1) and best.mu == pytest.approx(1.3)


def test_integer_timesteps_and_printed_digits_are_explained_to_their_rounding():
    timesteps = torch.tensor(S.timesteps_from_sigmas(S.wan_unipc_sigmas(27, 3.0), integer=True)).long()
    best = solve_schedule(timesteps, config={"flow_shift": 3.0})[0]
    assert best.explains and best.shift == 3.0 and "integer timesteps" in best.words
    printed = [round(float(s), 4) for s in S.flow_euler_sigmas(28, 3.0)]
    best = solve_schedule(printed)[0]
    assert best.shift == pytest.approx(3.0) and best.grid == "trailing" and "4 decimals" in best.words
    best = solve_schedule((timesteps / 1000).float())[0]
    assert best.shift == pytest.approx(3.0, rel=1e-3) and "3 decimals" in best.words
    low = torch.tensor(S.flow_euler_sigmas(28, 3.0)).bfloat16().float()
    assert "bfloat16" in solve_schedule(low)[0].words and solve_schedule(low)[0].shift == pytest.approx(3.0)


def test_the_tail_of_a_longer_schedule_is_found():
    tail = S.flow_euler_sigmas(50, 3.0)[20:]
    best = solve_schedule(tail, steps=50)[0]
    assert best.explains and best.shift == pytest.approx(3.0) and best.steps == 50


def test_a_karras_grid_is_found_in_both_units():
    sigmas = S.karras_sigmas(20, 0.03, 14.6)
    assert solve_schedule(sigmas)[0].grid == "karras"
    assert solve_schedule(sigmas / (1 + sigmas))[0].grid == "karras"
    assert solve_schedule(S.exponential_sigmas(20, 0.03, 14.6))[0].grid == "exponential"


def test_random_sigmas_are_not_explained():
    sigmas = np.sort(np.random.default_rng(0).random(20))[::-1].copy()
    assert not solve_schedule(sigmas)[0].explains


def test_what_is_no_schedule_is_trouble():
    for bad in ([[1.0, 0.5]], [], [1.0, math.nan], "text"):
        with pytest.raises(Trouble, match="observed sigmas"):
            solve_schedule(bad)


QWEN = FLUX | {"max_shift": 0.9, "max_image_seq_len": 8192, "shift": 1.0, "shift_terminal": 0.02}


@pytest.mark.parametrize("shift", [1.63, 2.65, 5.0])
def test_a_list_stretched_to_the_terminal_of_its_config_leaves_only_its_shift_to_be_fitted(shift):
    sigmas = S.stretch_to_terminal(S.shift_sigmas(S.linear_grid(4), shift), 0.02)
    seen = torch.tensor(np.append(1 - (1 - sigmas).astype(np.float32), 0), dtype=torch.float32)  # rounded as 1 is
    # stretched, a grid with another end is the same list with another shift: all of them are there
    fits = [fit for fit in solve_schedule(seen, tokens=6, config=QWEN) if fit.explains and fit.parameters.get("shift_terminal") == 0.02]
    assert any(fit.free <= 1 and fit.shift == pytest.approx(shift, rel=1e-4) for fit in fits)


def test_a_grid_that_ends_at_zero_is_solved():
    sigmas = torch.tensor(np.append(S.shift_sigmas(np.linspace(1, 0, 6), 1.59168), 0), dtype=torch.float32)
    best = solve_schedule(sigmas)[0]
    assert best.explains and (best.grid, best.parameters["last"]) == ("linear", 0.0)


def test_one_shift_for_every_size_is_named_by_the_config():
    config = FLUX | {"base_shift": 2.05, "max_shift": 2.05}
    best = solve_schedule(S.shift_sigmas(S.linear_grid(6), math.exp(2.05)), tokens=48, config=config)[0]
    assert best.explains and best.free == 0 and best.mu == pytest.approx(2.05)
