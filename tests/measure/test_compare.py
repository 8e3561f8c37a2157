"""How far one tensor is from another, and where: what `compare` promises."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whydiff.errors import Trouble
from whydiff.measure import tensors
from whydiff.measure.compare import compare, relative_l2

DTYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.float64,
          torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_is_equal_to_its_copy_in_every_dtype(dtype):
    a = (torch.arange(24).reshape(2, 3, 4) % 5).to(dtype)
    found = compare(a, a.clone())
    assert found.equal and found.relative_l2 == 0 and found.differing == 0 and found.elements == 24


def test_the_worst_element_is_named_by_its_index():
    a = torch.ones(2, 3, 4)
    b = a.clone()
    b[1, 2, 0] = 1.5
    found = compare(a, b)
    assert found.worst_index == (1, 2, 0) and found.max_abs == 0.5 and found.differing == 1
    assert "[1, 2, 0]" in str(found) and "1 of 24" in str(found)


def test_shapes_are_never_broadcast():
    found = compare(torch.ones(3, 1), torch.ones(3))
    assert not found.equal and found.relative_l2 is None and found.why == "shapes differ"
    assert str(found).startswith("shapes differ")
    with pytest.raises(Trouble, match="shapes differ"):
        relative_l2(torch.ones(3, 1), torch.ones(3))


def test_a_nan_never_agrees():
    a, b = torch.ones(4), torch.tensor([1, 1, math.nan, 1])
    found = compare(a, b)
    assert found.relative_l2 is None and not found.equal and found.worst_index == (2,)
    assert found.nonfinite_candidate == 1 and "not finite" in found.why
    assert relative_l2(a, b) == math.inf


def test_two_nans_at_one_place_are_equal_bits_and_still_no_distance():
    a = torch.tensor([1, math.nan, math.inf])
    found = compare(a, a.clone())
    assert found.equal and found.relative_l2 is None


def test_minus_zero_equals_zero():
    found = compare([0.0, 1.0], [-0.0, 1.0])
    assert found.equal and found.max_ulp == 0


def test_a_zero_reference_has_no_relative_distance_unless_both_are_zero():
    assert compare(torch.zeros(3), torch.zeros(3)).relative_l2 == 0
    found = compare(torch.zeros(3), torch.ones(3))
    assert found.relative_l2 is None and found.why == "the reference is zero"


def test_empty_tensors_and_scalars_are_compared():
    assert compare(torch.zeros(0, 4), torch.zeros(0, 4)).equal
    found = compare(2.0, torch.tensor(3.0))
    assert found.worst_index == () and found.relative_l2 == 0.5 and "worst at []" in str(found)


def test_dtypes_are_noted_and_values_compared():
    a = torch.tensor([1.0, 2.0])
    found = compare(a, a.to(torch.bfloat16))
    assert found.equal and (found.dtype_reference, found.dtype_candidate) == ("float32", "bfloat16")


def test_large_integers_are_compared_exactly():
    found = compare(torch.tensor([2**60]), torch.tensor([2**60 + 1]))
    assert not found.equal and found.differing == 1


def test_neighbouring_numbers_are_one_ulp_apart_in_the_coarser_dtype():
    a = torch.tensor([1.0, -1.0, 1e-3])
    assert compare(a, torch.nextafter(a, torch.tensor(math.inf))).max_ulp == 1
    low = a.to(torch.bfloat16)
    assert compare(a.double() * (1 + 2**-7), low).max_ulp == 1
    assert compare(torch.tensor([-1.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)).max_ulp > 2**60


def test_chunks_do_not_change_the_figures(monkeypatch):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 25, generator=g) + 100
    b = a + torch.randn(40, 25, generator=g) * 0.01
    whole = compare(a, b).to_dict(6)
    monkeypatch.setattr(tensors.chunks, "__defaults__", None)
    monkeypatch.setattr(tensors.chunks, "__kwdefaults__", {"size": 7})
    assert compare(a, b).to_dict(6) == whole
    assert whole["correlation"] == pytest.approx(np.corrcoef(a.flatten().double(), b.flatten().double())[0, 1], 1e-5)


def test_figures_agree_with_their_formulas():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(300, generator=g), torch.randn(300, generator=g)
    x, y = a.double(), b.double()
    found = compare(reference=a, candidate=b)
    assert found.relative_l2 == pytest.approx(float((x - y).norm() / x.norm()), 1e-12)
    assert found.mean_abs == pytest.approx(float((x - y).abs().mean()), 1e-12)
    assert found.max_rel == pytest.approx(float(((x - y).abs() / x.abs()).max()), 1e-12)
    assert found.cosine == pytest.approx(float(x @ y / x.norm() / y.norm()), 1e-12)
    spread = float(x.max() - x.min())
    assert found.psnr == pytest.approx(20 * math.log10(spread) - 10 * math.log10(float(((x - y) ** 2).mean())), 1e-9)
    assert relative_l2(a, b) == found.relative_l2


def test_pictures_arrays_and_lists_are_accepted():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert compare(Image.fromarray(pixels), pixels).equal
    assert compare([Image.fromarray(pixels)] * 2, np.stack([pixels] * 2)).equal
    assert compare([1, 2.5], np.array([1, 2.5], dtype=">f4")).equal
    assert compare(pixels[::-1], pixels[::-1].copy()).equal


def test_what_holds_no_numbers_is_trouble():
    with pytest.raises(Trouble, match="candidate is a dict"):
        compare([1.0], {})
    with pytest.raises(Trouble, match="different shapes"):
        compare([torch.ones(2), torch.ones(3)], [1.0])


def test_to_dict_is_json_with_three_digits():
    found = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.123456])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["max_abs"] == 0.123 and told["worst_index"] == [2]
    assert json.dumps(compare([1.0, math.nan], [1.0, math.inf]).to_dict(), allow_nan=False)
    assert compare([1.0], [1.0]).to_dict()["psnr"] is None
    assert "| relative_l2 |" in found._repr_markdown_()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3), st.integers(1, 60))
def test_distance_does_not_depend_on_the_scale_of_both_sides(seed, scale, n):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, generator=g, dtype=torch.float64) for _ in range(2))
    assert relative_l2(a * scale, b * scale) == pytest.approx(relative_l2(a, b), 1e-9)


def test_complex_against_real_is_a_figure_and_no_error():
    real = torch.tensor([1.0, 2.0])
    assert compare(torch.complex(real, torch.zeros(2)), real).equal
    assert compare(torch.complex(real, real), real).difference > 0
