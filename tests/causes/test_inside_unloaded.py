"""Weights that were not loaded because their names changed: told with the other side's in their place."""

import pytest
import torch
from inside_toys import lab, pair

from whydiff.causes.inside import strangers
from whydiff.causes.inside.explain import explain

TOKENS = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Wrapped(torch.nn.Module):
    """The same under other names, as a library's next version may have it."""

    def __init__(self):
        super().__init__()
        self.text_model = Encoder()

    def forward(self, x):
        return self.text_model(x)


def started(module):
    for layer in (module.text_model.first, module.text_model.last):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.zeros_(layer.bias)


def sides(role, damage):
    torch.manual_seed(4)
    healthy, other = Encoder(), Wrapped()
    other.text_model.load_state_dict(healthy.state_dict())
    damage(other)
    found = pair(other, lambda module: None, TOKENS, name="text_encoder", stage="prompt_encoding", role=role)
    found.modules["reference" if role == "candidate" else "candidate"] = healthy.eval()
    return found


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_weights_that_are_as_a_layer_starts_were_not_loaded(role):
    (cause,), left = explain([sides(role, started)], None, lab())
    assert (cause.id, cause.departs, cause.stage, left) == ("missing-keys-nonstrict", role, "prompt_encoding", [])
    assert "4 of 4 weights" in cause.statement and "text_model.first.weight" in cause.statement


def test_other_weights_that_were_loaded_are_not_said_to_be_missing():
    def other(module):
        torch.nn.init.normal_(module.text_model.last.bias)

    causes, _ = explain([sides("candidate", other)], None, lab())
    assert [cause.id for cause in causes if cause.id == "missing-keys-nonstrict"] == []


def test_a_network_that_shows_no_weights_is_not_told_to_have_lost_them():
    inside = pair(torch.nn.Linear(4, 4), lambda module: None, torch.ones(1, 4), name="transformer")
    inside.roots["candidate"] = torch.nn.Identity()
    assert strangers.told(inside) == ""
    torch.manual_seed(5)
    inside.roots["candidate"] = torch.nn.Linear(4, 4)
    assert "none has its values" in strangers.told(inside)
