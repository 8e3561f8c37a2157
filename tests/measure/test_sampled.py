"""A look at some elements before all are searched: what holds is still found, what cannot hold is not searched for."""

import pytest
import torch

from whydiff.measure import rearranged, sampled
from whydiff.measure.relations import find_relation


@pytest.fixture(autouse=True)
def every_size_counts_as_large(monkeypatch):
    monkeypatch.setattr(sampled, "LARGE", 1)


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


PLANTED = {
    "zeroed": lambda x: 0 * x, "sign": lambda x: -x, "range": lambda x: 2 * x - 1, "rounded": lambda x: x.bfloat16().float(),
    "scale": lambda x: x * 1.7, "offset": lambda x: x + 0.3, "scale_offset": lambda x: x * 1.7 + 0.3, "clamped": lambda x: x.clamp(-0.5, 0.5),
    "transposed": lambda x: x.transpose(1, 2), "flipped": lambda x: x.flip(2), "rolled": lambda x: x.roll(3, 2),
    "permuted": lambda x: x[:, torch.randperm(24, generator=torch.Generator().manual_seed(1))],
    "channel_scale": lambda x: x * torch.linspace(0.5, 2, 24)[:, None], "channel_offset": lambda x: x + torch.linspace(0.5, 2, 24)[:, None],
    "reordered": lambda x: x.flatten()[torch.randperm(x.numel(), generator=torch.Generator().manual_seed(1))].view_as(x),
    "shifted": lambda x: torch.cat([values(4, 24, 1), x[..., :-1]], -1),
    "region": lambda x: torch.cat([x[:, :6], x[:, 6:] * values(4, 18, 24)], 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_what_holds_is_found_as_without_a_look(kind, monkeypatch):
    x = values(4, 24, 24)
    y = PLANTED[kind](x)
    found = find_relation(x, y)
    assert sampled.look(x, y, 0.0) is not None and found.kind == kind
    monkeypatch.setattr(sampled, "LARGE", 1 << 30)
    assert find_relation(x, y).parameters == found.parameters


def test_what_the_look_rules_out_is_not_searched_for(monkeypatch):
    def never(_pair):
        raise AssertionError("searched among all elements")
        yield

    x = values(4, 24, 24)
    for name in ("shifted", "region", "permuted", "moved_axes"):
        monkeypatch.setattr(rearranged, name, never)
    with pytest.raises(AssertionError):
        find_relation(x, torch.cat([x[:3], values(1, 24, 24) + 1]))  # few differ: a look says too little
    assert find_relation(x, x + values(4, 24, 24).flip(0)) is None


def test_a_value_that_is_not_finite_is_found_however_rare():
    x = values(4, 24, 24)
    y = x.clone()
    y[3, 17, 2] = float("nan")
    assert find_relation(x, y).kind == "nonfinite"
