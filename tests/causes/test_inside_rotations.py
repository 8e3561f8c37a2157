"""Halves against adjacent pairs: the same attention with the channels of its heads rearranged."""

import pytest
import torch
import torch.nn.functional as F
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain


def halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * torch.cat([cos, cos], -1) + torch.cat([-b, a], -1) * torch.cat([sin, sin], -1)


def pairs(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


def neighbours_with_the_table_of_halves(x, cos, sin):
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * torch.cat([cos, cos], -1) + turned * torch.cat([sin, sin], -1)


def none(x, cos, sin):
    return x


class Attention(torch.nn.Module):
    """Two heads of queries and one of keys and values, rotated with a table of half their width."""

    def __init__(self, rotate=halves, normed=False, eager=False):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = torch.nn.Linear(32, 32), torch.nn.Linear(32, 16), torch.nn.Linear(32, 16)
        self.rotate, self.eager, self.head_dim = rotate, eager, 16
        if normed:
            self.q_norm, self.k_norm = torch.nn.RMSNorm(16, eps=1e-6), torch.nn.RMSNorm(16, eps=1e-6)
            torch.nn.init.normal_(self.q_norm.weight)

    def forward(self, x, cos, sin):
        q, k, v = (f(x).unflatten(-1, (-1, 16)) for f in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if self.eager:
            return ((q @ k.transpose(-1, -2) / 4).softmax(-1) @ v).transpose(1, 2).flatten(-2)
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(-2)


class Cache:
    """Keys of all calls so far, as transformers keep them."""

    def __init__(self):
        self.keys = torch.zeros(2, 0, 1, 16)

    def get_seq_length(self):
        return self.keys.shape[1]

    def update(self, k):
        self.keys = torch.cat([self.keys, k], 1)
        return self.keys


class Caching(Attention):
    def forward(self, x, cos, sin, past_key_values=None):
        if past_key_values is not None:
            past_key_values.update(self.k_proj(x)[:, :, None])
            x = x + past_key_values.get_seq_length()
        return super().forward(x, cos, sin)


def test_a_cache_does_not_grow_with_experiments():
    inside = pair(Caching(), lambda m: setattr(m, "rotate", pairs), *inputs(), past_key_values=Cache(), stage="prompt_encoding")
    first, again = inside.run("reference"), inside.run("reference")
    assert torch.equal(first, again)


def inputs():
    angles = torch.arange(7.0)[:, None] / 10 ** (torch.arange(8) / 4)
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1)), angles.cos(), angles.sin()


def found(own, other, stage="prompt_encoding", role="candidate", **options):
    inside = pair(Attention(own, **options), lambda m: setattr(m, "rotate", other), *inputs(), stage=stage, role=role)
    return *explain([inside], None, lab()), inside


@pytest.mark.parametrize("options", [{}, {"normed": True}, {"eager": True}])
@pytest.mark.parametrize("role", ["reference", "candidate"])
@pytest.mark.parametrize(("own", "other"), [(halves, pairs), (pairs, halves), (halves, neighbours_with_the_table_of_halves)])
def test_the_other_convention_is_named_whichever_side_has_it(own, other, role, options):
    causes, _, _ = found(own, other, role=role, **options)
    assert [c.id for c in causes] == ["text-encoder-rope-layout"]
    assert causes[0].relation[role] == ("halves" if other is halves else "pairs")
    if other is neighbours_with_the_table_of_halves:  # the two others are as good as each other
        assert causes[0].departs == role


def test_a_network_has_no_such_cause_but_is_told_what_differs():
    causes, left, inside = found(halves, pairs, stage="model_forward")
    assert not causes and left and "rotates adjacent pairs" in inside.found


def test_no_rotation_at_all_is_another_matter():
    causes, _, _ = found(halves, none)
    assert [cause.id for cause in causes] == ["rope-not-applied"]
