"""Sides whose weights accelerate's hooks keep elsewhere between calls: nothing is moved, and the verdict is that of plain ones."""

import accelerate
import pytest
import torch

import whydiff
from whydiff.evidence.surroundings.checksums import checksums
from whydiff.evidence.surroundings.fingerprint import fingerprint

CPU = torch.device("cpu")


class Network(torch.nn.Module):
    def __init__(self, act=None):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.act, self.outer = torch.nn.Linear(8, 32), act or torch.nn.GELU(approximate="tanh"), torch.nn.Linear(32, 8)

    def forward(self, hidden_states, timestep):
        return self.outer(self.act(self.inner(hidden_states))) * (0.5 + timestep)


class Sampler:
    def __init__(self, offloaded=False, act=None):
        self.components = {"transformer": Network(act).eval()}
        if offloaded:
            accelerate.cpu_offload(self.components["transformer"], execution_device=CPU)

    def __call__(self, num_inference_steps=3, seed=0):
        latents = whydiff.tap("initial_noise", torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(seed)))
        for i in range(num_inference_steps):
            noise_pred = whydiff.tap("noise_pred", self.components["transformer"](latents, torch.tensor(1 - i / 3)), step=i)
            latents = whydiff.tap("latents", latents - noise_pred / num_inference_steps, step=i)
        return latents


def meta(sampler):
    return all(p.is_meta for p in sampler.components["transformer"].parameters())


@pytest.mark.parametrize("candidate", [False, True])
def test_a_cause_inside_an_offloaded_network_is_named_as_in_a_plain_one(candidate):
    reference, other = Sampler(True), Sampler(candidate, torch.nn.GELU())
    verdict = whydiff.diagnose(reference=reference, candidate=other, call={"seed": 0})
    assert [cause.id for cause in verdict.causes] == ["gelu-tanh-vs-exact"]
    assert meta(reference) and meta(other) == candidate  # they lie where they lay


def test_weights_that_lie_elsewhere_are_read_there():
    plain, offloaded, again = Sampler(), Sampler(True), Sampler(True)
    assert meta(offloaded)
    assert checksums(plain.components, {}) == checksums(offloaded.components, {})
    assert fingerprint(offloaded) == fingerprint(again)
    again.components["transformer"].inner._hf_hook.weights_map["weight"][3] += 1
    assert fingerprint(offloaded) != fingerprint(again)
    assert checksums(offloaded.components, {}) != checksums(again.components, {})


def test_a_network_without_values_has_a_fingerprint():
    with torch.device("meta"):
        assert fingerprint(Network()) == fingerprint(Network())
