"""What pairing one by one leaves over: functions that stand for modules, and blocks around the same layers."""

import torch
from torch import nn

from whydiff.evidence.recording.functions import functions_of
from whydiff.measure.pairing import Output, Sought, pair_modules, with_functions


class WithModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8)

    def forward(self, x):
        return self.second(self.act(self.first(x)))


class WithFunction(nn.Module):
    def __init__(self, change=lambda x: x):
        super().__init__()
        self.one, self.two, self.change = nn.Linear(8, 8), nn.Linear(8, 8), change

    def forward(self, x):
        return self.change(self.two(nn.functional.silu(self.one(x))))


class Network(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks, self.last = nn.ModuleList(blocks), nn.Linear(8, 8)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def pair_of_networks(change=lambda x: x):
    torch.manual_seed(0)
    reference = Network([WithModule(), WithModule()])
    candidate = Network([WithFunction(change), WithFunction()])
    for mine, theirs in zip(reference.parameters(), candidate.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    return reference, candidate


def run(root, x, look=None):
    found, hooks = [], []
    for name, module in root.named_modules():
        if name:
            hooks.append(module.register_forward_hook(lambda _m, _a, out, name=name: found.append(Output(f"net/{name}", out.detach()))))
    with torch.no_grad(), functions_of({"net": root}, look):
        root(x)
    for hook in hooks:
        hook.remove()
    return found


def paired(reference, candidate):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    mine = run(reference, x)
    sought = Sought(mine)
    theirs = run(candidate, x, sought.look)
    return with_functions(pair_modules({"net": reference}, {"net": candidate}, mine, theirs), sought.found, {})


def test_an_activation_module_is_paired_with_the_function_that_computes_the_same_in_the_same_block():
    found = paired(*pair_of_networks())
    made = {(p.reference, p.candidate) for p in found.functions}
    assert made == {("net/blocks.0.act", "net/blocks.0 silu"), ("net/blocks.1.act", "net/blocks.1 silu")}
    assert found.unpaired_reference == [] and found.compared()["modules_unpaired"] == []


def test_functions_after_a_defect_make_no_pair_because_their_values_differ():
    found = paired(*pair_of_networks(lambda x: x.flip(-1)))
    assert "net/blocks.1.act" in found.unpaired_reference


def test_blocks_around_the_same_layers_are_counterparts_when_what_follows_departs():
    found = paired(*pair_of_networks(lambda x: x.flip(-1)))
    first = next(p for p in found.pairs if p.difference > 1e-3)
    assert (first.reference, first.candidate) == ("net/blocks.0", "net/blocks.0")
