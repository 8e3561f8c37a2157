"""What several ranks hold is put together as the run had shared it out, and what is lost or held twice is told."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.measure.shards import assemble

WHOLE = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.integers(2, 5), st.booleans())
def test_shards_of_any_axis_even_or_padded_give_the_whole(axis, ranks, padded):
    length = -(-WHOLE.shape[axis] // ranks)
    if (ranks - 1) * length >= WHOLE.shape[axis]:
        return  # a rank would hold padding alone
    parts = list(WHOLE.split(length, axis))
    if padded:
        parts[-1] = torch.cat([parts[-1], torch.zeros_like(WHOLE.narrow(axis, 0, length - parts[-1].shape[axis]))], axis)
    found = assemble(parts, WHOLE)
    assert (found.how, found.axis) == ("sharded", axis) and torch.equal(found.tensor, WHOLE)
    assert not found.missing and not found.repeated


def test_replicas_and_partial_sums_are_told_apart():
    assert assemble([WHOLE, WHOLE.clone()], WHOLE).how == "replicated"
    parts = [WHOLE * 0.3 + 1, WHOLE * 0.7 - 1]
    found = assemble(parts, WHOLE)
    assert found.how == "partial sums" and torch.allclose(found.tensor, WHOLE, atol=1e-5)


def test_a_replica_that_departs_is_what_is_compared():
    bad = WHOLE + 0.1
    found = assemble([WHOLE, bad, WHOLE], WHOLE)
    assert torch.equal(found.tensor, bad) and found.difference == pytest.approx(float((bad - WHOLE).norm() / WHOLE.norm()), rel=1e-4)


def test_a_shard_held_twice_and_the_one_that_is_missing_are_named():
    a, b, c, d, e = WHOLE.chunk(5, 1)
    found = assemble([a, b, b, d, e], WHOLE)
    assert found.missing == [2] and found.repeated == [1] and found.difference > 0.3


def test_a_rank_of_which_nothing_was_recorded_leaves_its_shard_missing():
    parts = WHOLE.chunk(5, 1)
    found = assemble([parts[0], parts[1], parts[3], parts[4]], WHOLE)
    assert found.missing == [2] and not found.repeated


def test_shards_in_another_order_are_put_in_theirs():
    a, b = WHOLE.chunk(2, 1)
    found = assemble([b, a], WHOLE)
    assert torch.equal(found.tensor, WHOLE) and found.slots == (1, 0) and "order [1, 0]" in found.words


def test_parts_of_no_fitting_shape_are_not_put_together():
    assert assemble([torch.ones(3, 3), torch.ones(3, 3)], WHOLE).tensor is None
