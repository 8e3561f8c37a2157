"""Two causes inside one network: each is found with the other one's state repaired, and neither is named alone."""

import copy

import pytest
import torch
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain
from whydiff.causes.inside.inside import Inside


class Guided(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 8))
        self.guidance_embedder = torch.nn.Linear(1, 8)

    def forward(self, sample, timestep, guidance):
        return self.body(sample + torch.sin(timestep / 97 + torch.arange(8)) + self.guidance_embedder(guidance[:, None]))


SAMPLE, TIME, SCALE = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([700.0]), torch.tensor([3.5, 3.5])


def asked(module, damage, *args, role="candidate", **kwargs):
    causes, left = explain([pair(module, damage, *args, role=role, **kwargs)], None, lab())
    return sorted(cause.id for cause in causes), left


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_a_network_exported_in_training_mode_and_without_its_guidance_has_both_causes(role):
    def exported(network):
        kept = copy.deepcopy(network).train()
        torch.nn.init.zeros_(kept.guidance_embedder.weight)
        torch.nn.init.zeros_(kept.guidance_embedder.bias)
        network.forward = lambda sample, timestep, guidance: kept(sample, timestep, guidance)

    assert asked(Guided(), exported, SAMPLE, TIME, SCALE, name="transformer", role=role) == (
        ["eval-mode-missing", "guidance-embedder-dropped"], [])  # fmt: skip


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_a_traced_timestep_that_is_no_whole_number_is_solved_for(role):
    network = Guided()
    damaged = pair(network, lambda m: setattr(m, "forward", lambda sample, timestep, guidance: Guided.forward(
        m, sample, torch.full_like(timestep, 412.0294), guidance)), SAMPLE, TIME, SCALE, name="transformer", role=role)  # fmt: skip
    (cause,), left = explain([damaged], None, lab())
    assert (cause.id, left) == ("export-constant-folded", [])
    assert cause.relation["value"] == pytest.approx(412.0294, rel=1e-6)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(16)
        self.out = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Dropout(0.4))

    def forward(self, x):
        return self.out(torch.nn.functional.gelu(self.norm(x)))


def test_code_around_a_layer_in_training_mode_is_asked_again_with_that_layer_repaired():
    def damage(block):
        block.out[1].train()
        block.forward = lambda x: block.out(torch.nn.functional.gelu(block.norm(x), approximate="tanh"))

    whole = pair(Block(), damage, 3 * torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1)))
    modules = {role: module.out[1] for role, module in whole.modules.items()}
    drawn = pair(torch.nn.Dropout(0.4), lambda m: None, torch.randn(2, 6, 16), name="transformer/block.out.1")
    dropout = Inside(drawn.names, modules, drawn.roots, drawn.calls, 1.0, 1e-7, 0, "model_forward")
    causes, left = explain([dropout, whole], None, lab())
    assert (sorted(cause.id for cause in causes), left) == (["eval-mode-missing", "gelu-tanh-vs-exact"], [])


class Rope(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.t_dim, self.w_dim = 2, 6
        self.register_buffer("freqs_cos", torch.cat([torch.arange(12.0)[:, None] * torch.ones(2), torch.randn(12, 6)], 1))

    def forward(self, x):
        return x * torch.cat(self.freqs_cos.split([self.t_dim, self.w_dim], 1)[::-1], 1)


def test_tables_are_explained_by_the_numbers_that_they_are_made_from():
    def damage(rope):
        rope.t_dim, rope.w_dim, rope.freqs_cos = 4, 4, rope.freqs_cos.flip(1).contiguous()

    assert asked(Rope(), damage, torch.randn(12, 8), name="transformer/rope") == (["rope-axis-split"], [])
