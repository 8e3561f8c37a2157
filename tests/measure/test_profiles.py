"""An error's place is told at a glance only where it is concentrated."""

import pytest
import torch

from whydiff.measure.profiles import at_a_glance, profile


def spoiled(shape, *index, size=1.0):
    reference = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    candidate = reference.clone()
    candidate[index] += size * torch.randn(candidate[index].shape, generator=torch.Generator().manual_seed(1))
    return reference, candidate


EVERYTHING = slice(None)


@pytest.mark.parametrize(("shape", "index", "probe", "words"), [
    ((1, 16, 8), (EVERYTHING, slice(12, 16)), "prompt_embeds", "tokens 12 to 15 (the last)"),
    ((1, 16, 8), (EVERYTHING, EVERYTHING, 3), "latents", "channel 3"),
    ((1, 4, 5, 8, 8), (EVERYTHING, EVERYTHING, 4), "latents", "the last frame"),
    ((1, 12, 12, 3), (EVERYTHING, 0), "image", "the first row"),
])  # fmt: skip
def test_a_concentrated_error_is_placed(shape, index, probe, words):
    text = at_a_glance(*spoiled(shape, *index), probe)
    assert text == f"100 % of the squared error in {words}"


def test_a_spread_error_and_none_have_no_place():
    assert at_a_glance(*spoiled((1, 16, 8), EVERYTHING), "latents") == ""
    same = torch.ones(1, 16, 8)
    assert at_a_glance(same, same, "latents") == ""
    assert profile(same, same, "latents") == []


def test_border_head_padding_and_grid():
    reference, candidate = spoiled((1, 4, 16, 16), EVERYTHING)
    candidate[..., 1:-1, 1:-1] = reference[..., 1:-1, 1:-1]
    assert at_a_glance(reference, candidate, "decoded") == "100 % of the squared error in the border"
    assert at_a_glance(*spoiled((1, 6, 10, 4), EVERYTHING, 3), "modules", heads=6) == "100 % of the squared error in head 3"
    padding = torch.tensor([False] * 5 + [True] * 11)
    spoilt = spoiled((1, 16, 8), EVERYTHING, slice(5, 16))
    assert at_a_glance(*spoilt, "prompt_embeds", padding=padding) == "100 % of the squared error in the padding tokens"
    packed = at_a_glance(*spoiled((1, 24, 8), EVERYTHING, slice(16, 24)), "latents", grid=(3, 2, 4))
    assert packed == "100 % of the squared error in the last frame"


def test_heads_side_by_side_in_the_last_axis_are_told_apart():
    words = at_a_glance(*spoiled((1, 10, 24), EVERYTHING, EVERYTHING, slice(6, 12)), "modules", heads=4)
    assert words == "100 % of the squared error in head 1"


def test_a_profile_that_is_kept_has_few_bars_and_all_of_the_error():
    entry = profile(*spoiled((1, 100, 2), EVERYTHING, slice(99, 100)), "prompt_embeds")[0].to_dict(most=48)
    assert entry["axis"] == "token" and entry["size"] == 100 and len(entry["shares"]) == 48
    assert entry["shares"][-1] == pytest.approx(1) and sum(entry["shares"][:-1]) == 0


def test_shares_sum_to_one():
    for entry in profile(*spoiled((2, 4, 6, 8), EVERYTHING), "latents"):
        assert sum(entry.shares) == pytest.approx(1)
        assert len(entry.shares) == (2, 4, 6, 8)[entry.axis]
