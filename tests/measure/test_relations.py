"""Every simple change that is planted is found with its parameters, and none is found where there is none."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.errors import Trouble
from whydiff.measure.relations import find_relation, relations

X = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
ORDER = torch.tensor([3, 0, 5, 1, 2, 4])
FACTORS = torch.tensor([0.5, 2.0, 1.5, 3.0, 0.25, 1.0]).view(1, 6, 1, 1)
PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def cut(x):
    x = x.clone()
    x[:, :, 2:5] = torch.randn(4, 6, 3, 8, generator=torch.Generator().manual_seed(2))
    return x


def broken(x):
    x = x.clone()
    x[1, 2, 3] = math.nan
    return x


def shuffled(x):
    return x.flatten()[torch.randperm(x.numel(), generator=torch.Generator().manual_seed(3))].view_as(x)


PLANTED = [
    ("identical", X, lambda x: x.clone(), {}),
    ("zeroed", X, torch.zeros_like, {}),
    ("sign", X, lambda x: -x, {"scale": -1.0}),
    ("range", PICTURE, lambda x: 2 * x - 1, {"to": [-1, 1]}),
    ("range", 2 * PICTURE - 1, lambda x: (x + 1) / 2, {"to": [0, 1]}),
    ("rounded", X, lambda x: x.to(torch.bfloat16), {"to": "bfloat16"}),
    ("rounded", X, lambda x: x.to(torch.bfloat16).float(), {"to": "bfloat16"}),
    ("rounded", X, lambda x: x.half().float(), {"to": "float16"}),
    ("rounded", X.double() / 3, lambda x: x.float(), {"to": "float32"}),
    ("rounded", X * 100, lambda x: x.trunc(), {"to": "towards zero to an integer"}),
    ("rounded", X * 100, lambda x: x.floor().int(), {"to": "down to an integer"}),
    ("rounded", PICTURE, lambda x: (x * 255).round() / 255, {"to": "to 8 bit in [0, 1]"}),
    ("precision", X, lambda x: (x.bfloat16() * torch.tensor(3.0).bfloat16() / 3).float(), {"dtype": "bfloat16"}),
    ("rounding_error", X, lambda x: torch.nextafter(x, x * 2), {"unit": 2.0**-24}),
    ("transposed", X, lambda x: x.mT, {"axes": [0, 1, 3, 2]}),
    ("flipped", X, lambda x: x.flip(3), {"axes": [3]}),
    ("halves_swapped", X, lambda x: x.roll(2, 0), {"axis": 0}),
    ("rolled", X, lambda x: x.roll(3, 2), {"axis": 2, "by": 3}),
    ("rolled", X, lambda x: x.roll(-1, 1), {"axis": 1, "by": -1}),
    ("scale", X, lambda x: x * 1000, {"scale": 1000.0}),
    ("scale", X, lambda x: x / 7, {"scale": 1 / 7}),
    ("scale", X.bfloat16(), lambda x: x * 3, {"scale": 3.0}),
    ("offset", X, lambda x: x + 0.1159, {"offset": 0.1159}),
    ("scale_offset", X, lambda x: x / 0.3611 + 0.1159, {"offset": 0.1159}),
    ("clamped", X, lambda x: x.clamp(-1, 1), {"min": -1.0, "max": 1.0}),
    ("clamped", X, lambda x: x.clamp(max=1), {"min": None, "max": 1.0}),
    ("permuted", X, lambda x: x[:, ORDER], {"axis": 1, "order": ORDER.tolist()}),
    ("channel_scale", X, lambda x: x * FACTORS, {"axis": 1, "scale": FACTORS.flatten().tolist()}),
    ("channel_offset", X, lambda x: x + FACTORS, {"axis": 1}),
    ("channel_scale_offset", X, lambda x: x * FACTORS + 2 * FACTORS, {"axis": 1}),
    ("reordered", X, shuffled, {}),
    ("region", X, cut, {"box": {"2": [2, 5]}}),
    ("nonfinite", X, broken, {"reference": 0, "candidate": 8, "of": X.numel()}),
]


@pytest.mark.parametrize(("kind", "x", "change", "parameters"), PLANTED,
                         ids=[f"{k}-{i}" for i, (k, *_) in enumerate(PLANTED)])
def test_a_planted_relation_is_found_with_its_parameters(kind, x, change, parameters):
    found = find_relation(x, change(x))
    assert found is not None and found.kind == kind
    for name, value in parameters.items():
        assert found.parameters[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    assert found.words and str(found) and found.to_dict()["kind"] == kind


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (64,), (2, 16, 32), (1, 4, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_unrelated_tensors_have_no_relation(shape, dtype):
    g = torch.Generator().manual_seed(5)
    for _ in range(5):
        a, b = (torch.randn(shape, generator=g, dtype=dtype) for _ in range(2))
        assert find_relation(a, b) is None


def test_unrelated_tensors_are_described_as_independent():
    g = torch.Generator().manual_seed(6)
    found = relations(torch.randn(4096, generator=g), torch.randn(4096, generator=g))
    described = [r for r in found if r.kind == "independent"]
    assert described and not described[0].accepted and not any(r.accepted for r in found)


def test_a_floor_admits_noise_and_nothing_larger():
    noisy = X * 3 + 3e-4 * torch.randn(X.shape, generator=torch.Generator().manual_seed(7))
    assert find_relation(X, noisy) is None
    found = find_relation(X, noisy, floor=1e-3)
    assert found.kind == "scale" and found.parameters["scale"] == pytest.approx(3, abs=1e-4)
    assert find_relation(X, noisy, floor=1e-5) is None


def test_a_difference_within_the_floor_is_identical():
    assert find_relation(X, X * (1 + 1e-6), floor=1e-5).kind == "identical"


def test_one_repeated_number_fits_only_a_telling_scale():
    found = find_relation(torch.tensor([3.5]), torch.tensor([3500.0]))
    assert found.kind == "scale" and found.parameters["scale"] == 1000
    assert find_relation(torch.tensor([3.5]), torch.tensor([4.1])) is None
    assert find_relation(torch.full((4,), 3.5), torch.full((4,), 4.1)) is None


def test_the_cheapest_relation_comes_first():
    found = relations(X, -X)
    assert found[0].kind == "sign" and [r.kind for r in found if r.accepted].index("sign") == 0


def test_a_difference_after_a_token_is_a_region():
    tokens = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(8))
    other = tokens.clone()
    other[:, 5:] = torch.randn(1, 11, 32, generator=torch.Generator().manual_seed(9))
    assert find_relation(tokens, other).parameters["box"] == {"1": [5, 16]}


def test_shapes_must_be_equal():
    with pytest.raises(Trouble, match="Find a layout first"):
        find_relation(torch.ones(2, 3), torch.ones(3, 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.booleans())
def test_any_scale_is_found(seed, scale, negative):
    scale = -scale if negative else scale
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    found = find_relation(x, x * scale)
    assert found.kind in ("scale", "sign", "identical") or abs(scale - 1) < 1e-6
    if found.kind == "scale":
        assert found.parameters["scale"] == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("power", [1 / 2.2, 2.2, 2.0, 0.5])
def test_a_gamma_is_found_with_its_exponent(power):
    relation = find_relation(PICTURE, PICTURE**power, 1e-7)
    assert relation.kind == "power" and relation.parameters["power"] == pytest.approx(power, rel=1e-6)
    assert find_relation(2 * PICTURE, (2 * PICTURE) ** power, 1e-7) is None, "outside [0, 1] a power is no transfer curve"


def test_the_curve_of_srgb_is_told_from_a_power_in_both_directions():
    encoded = torch.where(PICTURE <= 0.0031308, 12.92 * PICTURE, 1.055 * PICTURE ** (1 / 2.4) - 0.055)
    assert find_relation(PICTURE, encoded, 1e-7).parameters == {"to": "srgb"}
    assert find_relation(encoded, PICTURE, 1e-6).parameters == {"to": "linear"}
