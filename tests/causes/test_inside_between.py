"""Experiments between modules of two implementations of different making."""

import torch
from inside_toys import lab
from torch import nn

from whydiff.causes.inside import operations, sensitivity, submodules, tables
from whydiff.causes.inside.between import Between
from whydiff.causes.inside.explain import explain
from whydiff.evidence.floor import own_ulp
from whydiff.evidence.recording.calls import CallRecorder

X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Norms of queries and keys, an activation and a shortcut as modules."""

    def __init__(self, shortcut=None):
        super().__init__()
        self.norm_q, self.norm_k = nn.RMSNorm(8, eps=1e-6), nn.RMSNorm(8, eps=1e-6)
        self.shortcut = shortcut or nn.Identity()
        self.out = nn.Linear(8, 8)

    def forward(self, x):
        q, k = self.norm_q(2 * x), self.norm_k(3 * x)
        return self.shortcut(x) + self.out(q * k)


class Plain(nn.Module):
    """The same in one piece of code; `norms` False leaves out both norms."""

    def __init__(self, norms=True):
        super().__init__()
        self.norms, self.last = norms, nn.Linear(8, 8)

    def forward(self, hidden):
        q, k = 2 * hidden, 3 * hidden
        if self.norms:
            q, k = (t * torch.rsqrt(t.pow(2).mean(-1, keepdim=True) + 1e-6) for t in (q, k))
        return hidden + self.last(q * k)


def between(reference, candidate, child=False):
    for name, own in candidate.last.named_parameters():
        own.data.copy_(getattr(reference.out, name).data)
    calls, modules, children = {}, {}, {}
    for role, module, last in (("reference", reference, reference.out), ("candidate", candidate, candidate.last)):
        recorder = CallRecorder(["net"], None)
        holder = type("Holder", (), {"components": {"net": nn.Sequential(module)}})()
        with recorder.listen(holder), torch.no_grad():
            holder.components["net"](X)
        calls[role], modules[role], children[role] = recorder.calls, module, last if child else None
    first = {role: calls[role]["net/0"] for role in calls}
    entry = Between(dict.fromkeys(calls, "net/0"), modules, dict(modules), first, 1.0, 2 * own_ulp(X), 0, "model_forward",
                    children=children, paired={"reference": {"net/0.out"}, "candidate": {"net/0.last"}}, around=calls)  # fmt: skip
    return entry


class Squared(nn.Module):
    def forward(self, x):
        return x * x.abs()


def test_each_side_runs_on_its_own_inputs_and_healthy_sides_agree():
    assert between(Block(), Plain()).gap() < 1e-6


def test_the_module_without_counterpart_that_makes_the_difference_is_found():
    found = between(Block(Squared()), Plain()).narrowed()
    assert found.names == {"reference": "net/0.shortcut", "candidate": "net/0"}


def test_no_single_module_is_blamed_for_what_the_code_around_it_does():
    class Doubled(Plain):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    assert between(Block(), Doubled()).narrowed() is None


def test_all_norms_of_queries_and_keys_left_out_are_named_together():
    for child in (False, True):
        found = submodules.explain(between(Block(), Plain(norms=False), child), None)
        assert found.id == "qk-norm-config" and found.departs == "candidate"


def test_the_place_further_outwards_is_asked_only_where_the_first_explains_nothing():
    norms, unknown = between(Block(), Plain(norms=False)), between(Block(Squared()), Plain())
    unknown.instead = norms
    causes, left = explain([unknown], None, lab())
    assert [cause.id for cause in causes] == ["qk-norm-config"] and not left
    unknown.instead, norms.instead = None, unknown
    causes, left = explain([norms], None, lab())
    assert [cause.id for cause in causes] == ["qk-norm-config"] and not left
    causes, left = explain([unknown], None, lab())
    assert not causes and len(left) == 1


class Chunked(nn.Module):
    """Shift and scale from one vector; `order` says which comes first."""

    def __init__(self, order):
        super().__init__()
        self.order, self.last, self.out = order, nn.Linear(8, 8), None
        self.out = self.last

    def forward(self, x):
        parts = torch.cat([x[:, 0], x[:, 1]], -1).chunk(2, dim=-1)
        shift, scale = parts[:: self.order]
        return self.last(x * (1 + scale[:, None]) + shift[:, None])


def test_an_exchange_is_seen_at_the_module_that_receives_its_result():
    found = operations.explain(between(Chunked(1), Chunked(-1), child=True), None, None)
    assert found.id == "adaln-shift-scale-swapped"


def test_a_grid_behind_text_divided_by_columns_is_told_from_the_table():
    whole = torch.randn(3 + 4 * 6, 8, generator=torch.Generator().manual_seed(1))
    grid = whole[3:].unflatten(0, (4, 6))
    joined = torch.cat([whole[:3], *(part.flatten(0, 1) for part in grid.chunk(3, 1))])
    id_, _, relation, departs = tables._divided_grid([(whole, joined)])
    assert (id_, departs, relation) == ("sp-wrong-axis", "candidate", {"parts": 3, "width": 6, "from": 3})
    assert tables._divided_grid([(joined, whole)])[0] == "sp-wrong-axis"  # of which side, the tables alone cannot tell
    assert tables._divided_grid([(whole, whole.roll(1, 0))]) is None


class Nested(nn.Module):
    """A block hands what it modulates to a module whose first paired layer lies further in."""

    def __init__(self):
        super().__init__()
        self.attn = nn.Sequential(nn.Identity(), nn.Linear(8, 8))

    def forward(self, x):
        return x + self.attn(2 * x + 1)


def test_the_place_is_sought_outwards_from_the_first_module_that_received_something_else():
    from whydiff.engine.handed import _outwards

    calls = {}
    for role in ("reference", "candidate"):
        recorder = CallRecorder(["net"], None)
        holder = type("Holder", (), {"components": {"net": nn.Sequential(Nested())}})()
        with recorder.listen(holder), torch.no_grad():
            holder.components["net"](X)
        calls[role] = recorder.calls
    first = {role: calls[role]["net/0.attn.0"] for role in calls}
    places = [{role: (call.name, children[role] is not None) for role, call in regions.items()}
              for regions, children in _outwards(calls, first, {role: {"net/0.attn.0"} for role in calls})]  # fmt: skip
    assert [place["candidate"] for place in places][:2] == [("net/0.attn", True), ("net/0", True)]


def test_both_sides_hear_an_argument_although_each_runs_on_its_own_inputs():
    entry = between(Block(), Plain(norms=False))
    entry.names = dict.fromkeys(entry.names, "net")
    assert sensitivity.explain(entry, None, None) is None
    assert not entry.found
