"""Whole networks: one that does not react to an input, and one that runs another in training mode behind its back."""

import copy

import pytest
import torch
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 8))

    def forward(self, sample, timestep):
        return self.inner(sample + torch.sin(0.01 * timestep[:, None]))


SAMPLE, TIME = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0, 700.0])


def named(damage, role):
    (cause,), left = explain([pair(Network(), damage, SAMPLE, TIME, name="transformer", role=role)], None, lab())
    assert left == []
    return cause


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_a_constant_timestep_is_found_with_its_value(role):
    def folded(network):
        network.forward = lambda sample, timestep: Network.forward(network, sample, torch.full_like(timestep, 37.0))

    cause = named(folded, role)
    assert (cause.id, cause.departs, cause.relation["value"]) == ("export-constant-folded", role, 37.0)


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_a_hidden_network_in_training_mode_is_found(role):
    def exported(network):
        kept = copy.deepcopy(network).train()
        network.forward = lambda sample, timestep: kept(sample, timestep)

    cause = named(exported, role)
    assert (cause.id, cause.departs, cause.equivalent) == ("eval-mode-missing", role, ["export-without-eval"])
