"""Inputs of linear layers in float8: with scale 1 it has a name, with a scale of their own it has none."""

import pytest
import torch
import torch.nn.functional as F
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def cast(x, kind, scale=1.0):
    most = torch.finfo(kind).max
    return (x / scale).clamp(-most, most).to(kind).to(x.dtype) * scale


def product(kind, scale=1.0, weights=False):
    def damage(m):
        w = m.weight.detach()
        if weights:
            over = w.abs().max() / torch.finfo(kind).max
            w = cast(w, kind, over)
        m.forward = lambda x: F.linear(cast(x, kind, scale), w, m.bias)

    return damage


def found(damage, large=1.0, role="candidate"):
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1)) * large
    return explain([pair(torch.nn.Linear(32, 24), damage, x, role=role)], None, lab())


@pytest.mark.parametrize("role", ["reference", "candidate"])
@pytest.mark.parametrize("kind", [E4M3, E5M2])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("large", [0.01, 1.0, 900.0])
def test_an_input_rounded_without_a_scale_is_named(role, kind, weights, large):
    (cause,), left = found(product(kind, weights=weights), large, role)
    assert (cause.id, cause.departs, cause.relation["dtype"]) == ("fp8-input-scale-default", role, str(kind).removeprefix("torch."))
    assert not left


@pytest.mark.parametrize("scale", [0.0073, 3.1])
def test_a_scale_of_its_own_is_another_matter(scale):
    assert "fp8-input-scale-default" not in [c.id for c in found(product(E4M3, scale))[0]]


def test_lower_precision_of_another_kind_is_another_matter():
    causes, _ = found(lambda m: setattr(m, "forward", lambda x: F.linear(x.bfloat16().float(), m.weight, m.bias)))
    assert "fp8-input-scale-default" not in [c.id for c in causes]
