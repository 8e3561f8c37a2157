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


@pytest.mark.parametrize("factor, size", [(0.001, "small"), (1000.0, "large")])
def test_a_network_that_scales_its_timestep_is_named(factor, size):
    def scaled(network):
        network.forward = lambda sample, timestep: Network.forward(network, sample, timestep * factor)

    cause = named(scaled, "candidate")
    assert (cause.id, cause.stage) == ("timestep-scale-1000", "schedule") and f"1000 times too {size}" in cause.statement


def test_a_network_whose_weights_are_unrelated_is_told_so():
    def unloaded(network):
        torch.manual_seed(5)
        network.inner = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Linear(12, 8))

    inside = pair(Network(), unloaded, SAMPLE, TIME, name="transformer")
    found, left = explain([inside], None, lab())
    assert not found and left == [inside]
    assert "of the candidate's 4 weights none has its values in the reference" in inside.found
