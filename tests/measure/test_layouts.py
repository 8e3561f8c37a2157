"""Rearrangements between two tensors of equal values: what `find_layout` finds, and undoes."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.errors import Trouble
from whydiff.measure.layouts import find_copies, find_layout, pack, unpack
from whydiff.measure.rearranged import part_of

X = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
V = torch.randn(1, 4, 3, 6, 8, generator=torch.Generator().manual_seed(1))

PLANTED = [
    (X, "b c h w -> b h w c"),
    (X, "b c h w -> b c w h"),
    (X, "b c h w -> (b c) h w"),
    (X, "b c h w -> 1 b c h w"),
    (X, "b c h w -> b (h w) c"),
    (X, "b c h w -> b (w h) c"),
    (X, "b c (h ph) (w pw) -> b (h w) (c ph pw)"),
    (X, "b c (h ph) (w pw) -> b (h w) (ph pw c)"),
    (X, "b c (h ph) (w pw) -> b (w h) (c ph pw)"),
    (X, "b c (h ph) (w pw) -> b (c ph pw) h w"),
    (V, "b c t h w -> b t c h w"),
    (V, "b c t h w -> (b t) c h w"),
    (V, "b c t h w -> b (t h w) c"),
    (V, "b c t (h ph) (w pw) -> b (t h w) (ph pw c)"),
    (V, "b c t h w -> c t h w"),
]


@pytest.mark.parametrize(("x", "pattern"), PLANTED, ids=[p for _, p in PLANTED])
@pytest.mark.parametrize("packed_side", ["candidate", "reference"])
def test_a_planted_layout_is_found_and_undone(x, pattern, packed_side):
    sizes = {"ph": 2, "pw": 2} if "ph" in pattern else {"b": 1} if pattern.endswith("-> c t h w") else {}
    y = x[0] if pattern.endswith("-> c t h w") else rearrange(x, pattern, **sizes)
    reference, candidate = (x, y) if packed_side == "candidate" else (y, x)
    layout = find_layout(reference, candidate)
    assert torch.equal(layout.apply(candidate), reference)
    assert torch.equal(layout.invert(reference), candidate)
    assert torch.equal(layout.reversed().apply(reference), candidate)


def test_the_name_is_a_pattern_from_candidate_to_reference():
    layout = find_layout(X, pack(X))
    assert str(layout) == "b (h w) (c ph pw) -> b c (h ph) (w pw)"
    assert str(find_layout(X, X.permute(0, 2, 3, 1))) in ("b c h w -> b w c h", "b h w c -> b c h w")


def test_equal_shapes_with_another_order_are_found():
    square = torch.randn(1, 4, 6, 6)
    layout = find_layout(square, square.mT.contiguous())
    assert not layout.trivial and torch.equal(layout.apply(square.mT), square)
    for other in (rearrange(X, "b c (h ph) (w pw) -> b (h w) (ph pw c)", ph=2, pw=2),
                  rearrange(X, "b c (h ph) (w pw) -> b (w h) (c ph pw)", ph=2, pw=2)):
        layout = find_layout(pack(X), other)
        assert layout is not None and torch.equal(layout.apply(other), pack(X))


def test_tensors_that_agree_as_they_are_have_the_trivial_layout():
    assert find_layout(X, X.clone()).trivial
    assert find_layout(X, X * (1 + 1e-6)) is None
    assert find_layout(X, X * (1 + 1e-6), tolerance=1e-5).trivial


def test_other_values_have_no_layout():
    assert find_layout(X, torch.randn(2, 12, 16)) is None
    assert find_layout(X, pack(X) * 1.5) is None
    assert find_layout(X, X[:1]) is None


def test_without_values_all_layouts_of_the_shapes_are_listed():
    names = [layout.name for layout in find_layout(X, pack(X), by_values=False)]
    assert "b (h w) (c ph pw) -> b c (h ph) (w pw)" in names and "b (h w) (ph pw c) -> b c (h ph) (w pw)" in names
    assert all(layout.apply(pack(X)).shape == X.shape for layout in find_layout(X, pack(X), by_values=False))
    assert find_layout(X, X[:1], by_values=False) == []


def test_a_final_sigma_zero_is_dropped_or_appended():
    sigmas = torch.tensor([1.0, 0.7, 0.3])
    longer = torch.cat([sigmas, torch.zeros(1)])
    drop, append = find_layout(sigmas, longer), find_layout(longer, sigmas)
    assert torch.equal(drop.apply(longer), sigmas) and torch.equal(drop.invert(sigmas), longer)
    assert torch.equal(append.apply(sigmas), longer) and torch.equal(append.invert(longer), sigmas)
    assert find_layout(longer, torch.tensor([0.9, 0.7, 0.3])) is None


def test_a_tensor_of_another_shape_is_answered_with_the_shape_expected():
    with pytest.raises(Trouble, match=r"expects a candidate of shape \[2, 12, 16\]"):
        find_layout(X, pack(X)).apply(X)


def test_a_large_tensor_is_searched_by_samples_first():
    big = torch.randn(1, 16, 64, 96)
    layout = find_layout(big, pack(big, "ph pw c"))
    assert layout.name == "b (h w) (ph pw c) -> b c (h ph) (w pw)"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4),
       st.sampled_from(["c ph pw", "ph pw c", "c pw ph", "pw ph c"]))
def test_unpacking_undoes_packing(b, c, h, w, order):
    x = torch.arange(b * c * h * w * 4.0).reshape(b, c, 2 * h, 2 * w)
    tokens = pack(x, order)
    assert torch.equal(tokens, rearrange(x, f"b c (h ph) (w pw) -> b (h w) ({order})", ph=2, pw=2))
    assert torch.equal(unpack(tokens, 2 * h, 2 * w, order), x)


def test_a_tensor_that_is_the_beginning_or_the_end_of_the_other_is_said():
    assert part_of(X, X[:, :, :2]) == ", the candidate's is the first 2 of the other's 6 along axis 2"
    assert part_of(X[..., 5:], X) == ", the reference's is the last 3 of the other's 8 along axis 3"
    assert part_of(X, X[:, 1:3]) == part_of(X, V) == part_of(X, X[:, :2, :3]) == ""


def test_copies_along_the_batch_are_a_layout_whatever_the_other_side_holds():
    once, other = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    found = find_copies(torch.cat([once, once]), other)
    assert torch.equal(found.apply(other), torch.cat([other, other])) and torch.equal(found.invert(torch.cat([once, once])), once)
    back = find_copies(other, torch.cat([once, once]))
    assert torch.equal(back.apply(torch.cat([once, once])), once) and back.reversed().copies == 2
    with pytest.raises(Trouble, match="not copies"):
        back.apply(torch.cat([once, other]))
    assert find_copies(torch.cat([once, other]), other) is None
    assert find_copies(once, other) is None
