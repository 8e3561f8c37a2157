"""Parameters are recognised by what they hold: renamed, transposed, packed, reordered, fused, cast, scaled; or not at all."""

import torch
from torch import nn

from whydiff.measure.pairing import pair_parameters


def tree(**tensors) -> nn.Module:
    """A module with these parameters; `a__b` stands in a module `a`."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split("__")
        inner = root
        for part in path:
            if part not in inner._modules:
                inner.add_module(part, nn.Module())
            inner = inner._modules[part]
        inner.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=False))
    return root


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found(reference, candidate):
    pairing = pair_parameters(reference, candidate)
    return {(p.reference, p.candidate): p.kind for p in pairing.pairs}, pairing


def test_every_layout_of_the_same_values_is_recognised_and_named():
    a, conv = random(8, 6), random(8, 3, 2, 2)
    layouts = {
        "equal": (a, a), "reshaped": (a, a[:, :, None, None]), "transposed": (a, a.T), "reordered": (a, a[[4, 5, 6, 7, 0, 1, 2, 3]]),
        "packed": (conv, conv.permute(0, 2, 3, 1).reshape(8, 12)),
    }  # fmt: skip
    for kind, (mine, theirs) in layouts.items():
        pairs, pairing = found(tree(x=mine), tree(other=theirs))
        assert pairs == {("x", "other"): kind} and pairing.complete


def test_reordered_rows_say_where_each_row_is():
    a = random(8, 6)
    [pair] = pair_parameters(tree(x=a), tree(y=a[[6, 7, 0, 1, 2, 3, 4, 5]])).pairs
    assert torch.equal(a[[6, 7, 0, 1, 2, 3, 4, 5]][pair.rows_candidate], a)


def test_parts_are_found_in_a_whole_of_any_layout():
    q, k, v = (random(8, 6, seed=i) for i in range(3))
    whole = torch.cat([q, k, v])
    heads = whole.view(3, 4, 2, 6).transpose(0, 1).reshape(24, 6)
    for stored in (whole, heads, whole.T, torch.cat([v, q, k])):
        pairs, pairing = found(tree(q=q, k=k, v=v), tree(w=stored))
        assert set(pairs) == {("q", "w"), ("k", "w"), ("v", "w")} and pairing.complete
    columns = torch.cat([q, k, v], dim=1)
    assert found(tree(q=q, k=k, v=v), tree(w=columns))[1].complete


def test_biases_follow_the_weights_of_their_module():
    q, k = random(8, 6), random(8, 6, seed=1)
    mine = tree(q__weight=q, q__bias=torch.zeros(8), k__weight=k, k__bias=torch.zeros(8))
    pairs, pairing = found(mine, tree(qk__weight=torch.cat([q, k]), qk__bias=torch.zeros(16)))
    assert {("q.bias", "qk.bias"), ("k.bias", "qk.bias")} < set(pairs) and pairing.complete


def test_a_cast_changes_nothing_and_a_factor_is_measured():
    a = random(16, 8)
    assert found(tree(x=a), tree(y=a.bfloat16()))[1].complete
    [pair] = pair_parameters(tree(x=a), tree(y=a * 0.25)).pairs
    assert pair.kind == "scaled" and abs(pair.scale - 0.25) < 1e-6


def test_a_merged_adapter_is_a_changed_weight_and_unrelated_weights_are_none():
    a, b = random(32, 16), random(32, 16, seed=1)
    low_rank = 0.1 * random(32, 2, seed=2) @ random(2, 16, seed=3)
    pairs, pairing = found(tree(x=a, y=b), tree(p=b, q=a + low_rank))
    assert pairs == {("y", "p"): "equal", ("x", "q"): "changed"} and not pairing.complete
    assert pair_parameters(tree(x=a), tree(y=b)).unpaired_reference == ["x"]


def test_tensors_of_equal_content_are_told_apart_by_their_neighbours_or_left_as_a_group():
    ones = torch.ones(8)
    mine = tree(a__w=random(8, 8), a__n=ones, b__w=random(8, 8, seed=1), b__n=ones)
    theirs = tree(x__w=random(8, 8, seed=1), x__m=ones, y__w=random(8, 8), y__m=ones)
    pairs, _ = found(mine, theirs)
    assert {("a.n", "y.m"), ("b.n", "x.m")} < set(pairs)
    pairing = pair_parameters(tree(a=ones, b=ones, w=random(4, 4)), tree(c=ones, d=ones, v=random(4, 4)))
    assert pairing.interchangeable == [(["a", "b"], ["c", "d"])] and pairing.share < 1


def test_exchanged_names_are_not_believed():
    a, b, c = (random(8, 8, seed=i) for i in range(3))
    pairs, _ = found(tree(x=a, y=b, z=c), tree(x=b, y=c, z=a))
    assert set(pairs) == {("x", "z"), ("y", "x"), ("z", "y")}


def test_rows_without_a_counterpart_are_counted_as_not_compared():
    q, k = random(8, 6), random(8, 6, seed=1)
    pairing = pair_parameters(tree(q=q), tree(w=torch.cat([q, k])))
    assert pairing.compared()["parameters_unpaired"] == ["in part: w rows 8:16"] and not pairing.complete
