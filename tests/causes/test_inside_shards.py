"""Modules that see one rank's part of a sequence; keys and values that stay those of an earlier step."""

import functools
import types

import pytest
import torch
import torch.nn.functional as F
from inside_toys import lab, pair

from whydiff.causes.inside import stale
from whydiff.causes.inside.explain import explain
from whydiff.places import Place


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.attend = *(torch.nn.Linear(32, 32) for _ in range(3)), F.scaled_dot_product_attention

    def forward(self, x, table):
        q, k, v = (f(x).unflatten(-1, (2, 16)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        return self.attend(q + table, k + table, v).transpose(1, 2).flatten(-2)


class Joint(Attention):
    def forward(self, image, text):
        return super().forward(torch.cat([text, image], 1), torch.zeros(()))


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def alone(parts):
    return lambda q, k, v: torch.cat([F.scaled_dot_product_attention(*t) for t in zip(*(x.chunk(parts, -2) for x in (q, k, v)))], -2)


def with_text(q, k, v):
    made = [F.scaled_dot_product_attention(*(torch.cat([x[..., :5, :], p], -2) for x, p in zip((q, k, v), t)))
            for t in zip(*(x[..., 5:, :].chunk(2, -2) for x in (q, k, v)))]  # fmt: skip
    return torch.cat([made[0], made[1][..., 5:, :]], -2)


def first(q, k, v):
    return F.scaled_dot_product_attention(q, k[..., :7, :], v[..., :7, :])


@pytest.mark.parametrize("role", ["reference", "candidate"])
@pytest.mark.parametrize("attend", [alone(2), alone(4), with_text, first])
def test_attention_to_the_own_part_alone_is_named(attend, role):
    inside = pair(Joint(), lambda m: setattr(m, "attend", attend), randn(2, 9, 32), randn(2, 5, 32, seed=2), role=role)
    (cause,), _ = explain([inside], None, lab())
    assert (cause.id, cause.departs) == ("parallel-config-not-propagated", role)


@pytest.mark.parametrize("local", [False, True])
def test_a_module_run_on_parts_is_named(local):
    def damage(m):
        m.forward = lambda x, table: torch.cat([Attention.forward(m, p, table[:6] if local else t)
                                                for p, t in zip(x.chunk(2, 1), table.chunk(2, 0))], 1)  # fmt: skip

    inside = pair(Attention(), damage, randn(2, 12, 32), randn(12, 16, seed=2))
    (cause,), _ = explain([inside], None, lab())
    assert cause.id == "parallel-config-not-propagated" and cause.relation["positions"] == ("first part" if local else "own")


def test_a_causal_attention_is_another_matter():
    causal = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)  # noqa: E731
    inside = pair(Joint(), lambda m: setattr(m, "attend", causal), randn(2, 9, 32), randn(2, 5, 32, seed=2))
    assert not explain([inside], None, lab())[0]


@pytest.mark.parametrize("chosen", [("to_k", "to_v"), ("to_v",), ("to_q",)])
def test_keys_and_values_of_an_earlier_step_are_named(chosen):
    before, now, table = randn(2, 9, 32, seed=5), randn(2, 9, 32), torch.zeros(())

    def damage(m):
        for name in chosen:
            layer = getattr(m, name)
            stayed = layer(before).detach()
            layer.forward = functools.partial(lambda kept, _x: kept, stayed)

    inside = pair(Attention(), damage, now, table)
    inside.step = 1
    healthy, name = inside.modules["reference"], inside.names["reference"]

    def run(role, **options):
        return {Place("modules", step, None, 0, f"{name}.{n}"): getattr(healthy, n)(x).detach()
                for n in ("to_k", "to_v") for step, x in ((0, before), (1, now))} if role == "reference" else {}  # fmt: skip

    here = types.SimpleNamespace(run=run, put_into=lambda *a: None, traces={"reference": {}})
    cause = stale.explain(inside, None, here)
    assert (cause and cause.id) == (None if chosen == ("to_q",) else "kv-cache-not-refreshed")
