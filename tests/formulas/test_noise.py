"""Noise is named by its recipe: what draws it again bit for bit, on the CPU and as a CUDA device would."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.errors import Trouble
from whydiff.formulas.noise import NoiseRecipe, draw, find_recipe, recipes
from whydiff.formulas.noise_layouts import draw_layouts
from whydiff.formulas.philox import cuda_randn, offset_after, philox

SHAPE = (2, 4, 6, 8)
SEEDS = [0, 1, 7, 42]


def cpu(shape=SHAPE, seed=42, dtype=torch.float32, generator=None):
    return torch.randn(shape, generator=generator or torch.Generator().manual_seed(seed), dtype=dtype)


def after_draws(count):
    generator = torch.Generator().manual_seed(42)
    return [cpu(generator=generator) for _ in range(count + 1)][-1]


PLANTED = {
    "plain": (cpu(), {"seed": 42, "device": "cpu", "dtype": "float32", "scale": 1.0}),
    "another seed": (cpu(seed=7), {"seed": 7}),
    "bfloat16 drawn": (cpu(dtype=torch.bfloat16), {"dtype": "bfloat16", "cast": None}),
    "bfloat16 drawn, float32 stored": (cpu(dtype=torch.bfloat16).float(), {"dtype": "bfloat16", "cast": None}),
    "float32 drawn, bfloat16 stored": (cpu((1, 3, 1, 7)).bfloat16(), {"dtype": "float32"}),
    "float32 drawn, through bfloat16": (cpu((1, 3, 1, 7)).bfloat16().float(), {"dtype": "float32", "cast": "bfloat16"}),
    "bfloat16 drawn, 21 elements": (cpu((1, 3, 1, 7), dtype=torch.bfloat16), {"dtype": "bfloat16"}),
    "float16 drawn, float32 stored": (cpu(dtype=torch.float16).float(), {"dtype": "float16"}),
    "float64 drawn": (cpu(dtype=torch.float64).float(), {"dtype": "float64"}),
    "scaled": (cpu() * 14.614642, {"scale": pytest.approx(14.614642, rel=1e-6)}),
    "one earlier draw": (after_draws(1), {"earlier": (SHAPE,)}),
    "two earlier draws": (after_draws(2), {"earlier": (SHAPE, SHAPE), "skipped": 2}),
    "seed + i": (torch.cat([cpu((1, 4, 6, 8), 42), cpu((1, 4, 6, 8), 43)]), {"batch": "seed + i", "seed": 42}),
    "same seed": (torch.cat([cpu((1, 4, 6, 8), 42)] * 2), {"batch": "same seed"}),
    "cuda": (cuda_randn(SHAPE, 42), {"device": "cuda", "seed": 42}),
    "cuda bfloat16": (cuda_randn(SHAPE, 7).bfloat16(), {"device": "cuda", "seed": 7}),
    "cuda after a draw": (cuda_randn(SHAPE, 1, offset_after(384)), {"device": "cuda", "earlier": (SHAPE,)}),
    "few elements": (cpu((1, 3, 1, 3)), {"seed": 42}),
    "no multiple of 16": (cpu((1, 3, 1, 7)), {"seed": 42}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_recipe_is_found_and_draws_the_noise_again(name):
    noise, expected = PLANTED[name]
    found = find_recipe(noise, SEEDS)
    assert found.exact and torch.equal(draw(found), noise)
    for key, value in expected.items():
        assert getattr(found, key) == value
    assert f"seed {found.seed}" in str(found) and "bit for bit" in str(found)


@pytest.mark.parametrize(("drawn", "pattern", "name"), [
    ((2, 4, 8, 6), "b c w h -> b c h w", "b c w h -> b c h w"),
    ((2, 6, 8, 4), "b h w c -> b c h w", "b h w c -> b c h w"),
    ((2, 12, 16), "b (h w) (c ph pw) -> b c (h ph) (w pw)", "b (h w) (c ph pw) -> b c (h ph) (w pw)"),
    ((2, 12, 16), "b (h w) (ph pw c) -> b c (h ph) (w pw)", "b (h w) (ph pw c) -> b c (h ph) (w pw)"),
    ((2, 4, 6, 8), "b c (h ph) (w pw) -> b (h w) (c ph pw)", "b c (h ph) (w pw) -> b (h w) (c ph pw)"),
    ((1, 3, 4, 6, 8), "b t c h w -> b c t h w", "b t c h w -> b c t h w"),
])
def test_the_layout_of_the_draw_is_found(drawn, pattern, name):
    left = pattern.split(" -> ")[0]
    sizes = {"ph": 2, "pw": 2} if "ph" in pattern else {}
    noise = rearrange(cpu(drawn), pattern, **sizes, **({"h": 3} if "(h w)" in left else {}))
    found = find_recipe(noise, SEEDS)
    assert found.exact and found.layout == name and torch.equal(draw(found), noise)


def test_noise_of_a_real_gpu_is_recognised_to_its_rounding():
    published = torch.tensor([-0.92466259, -0.42534415, -2.6438457, 0.14518388])
    found = find_recipe(published, SEEDS)
    assert (found.device, found.seed) == ("cuda", 0)
    assert cuda_randn((6,), 42).tolist() == pytest.approx([0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530], abs=1e-4)


def test_a_large_cuda_draw_depends_on_the_gpu():
    shape = (1, 1, 250, 200)
    small, large = cuda_randn(shape, 3, max_threads=40 * 1024), cuda_randn(shape, 3)
    assert torch.equal(small.flatten()[:40960], large.flatten()[:40960]) and not torch.equal(small, large)
    found = find_recipe(small, [3], devices=("cuda",))
    assert found.max_threads == 40 * 1024 and found.exact


def test_noise_that_no_recipe_draws_has_none():
    stranger = torch.randn(SHAPE, generator=torch.Generator().manual_seed(12345))
    assert find_recipe(stranger, SEEDS) is None
    half = cpu()
    half[1] = stranger[1]
    assert find_recipe(half, SEEDS) is None


def test_what_is_no_noise_is_trouble():
    for bad in (torch.zeros(4, 4), torch.ones(1), torch.arange(9), torch.full((4,), float("nan"))):
        with pytest.raises(Trouble, match="noise must be"):
            find_recipe(bad, SEEDS)


def test_philox_agrees_with_the_published_test_vector():
    """Random123's known answers: counter and key zero give 6627e8d5 e169c58d bc57ac4c 9b00dbd8."""
    zero = [0]  # one counter
    assert [f"{int(w):08x}" for w in philox((zero, zero), 0).flatten()] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_cuda_normals_are_standard_in_every_dtype():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = cuda_randn((50_000,), 5, dtype=dtype).double()
        assert abs(float(values.mean())) < 4 / 50_000**0.5 and abs(float(values.std()) - 1) < 4 / 100_000**0.5


def test_plain_recipes_come_first_and_none_twice():
    tried = list(recipes(SHAPE, SEEDS, skips=1))
    assert tried[0] == NoiseRecipe(SHAPE, 0) and len(set(tried)) == len(tried)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["cpu", "cuda"]), st.integers(0, 4))
def test_every_layout_is_found_again(seed, device, index):
    layouts = draw_layouts(SHAPE)
    recipe = NoiseRecipe(SHAPE, seed, device, arrangement=layouts[index % len(layouts)])
    found = find_recipe(draw(recipe), [seed])
    assert found.exact and found.layout == recipe.layout and found.device == device
