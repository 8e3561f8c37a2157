"""Recorded tensors without shared names find their counterparts by order, size and values; what has none is listed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.measure.sequence import CERTAIN, align_sequences, footprint


def run(seed=0, layers=4, scale=1.0):
    """Activations of a small residual network on an input: [(name, tensor)]."""
    weights = torch.Generator().manual_seed(7)
    x = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(seed)) * scale
    seen = [("embed", x)]
    for i in range(layers):
        q, k, v = (x @ torch.randn(16, 16, generator=weights) * (0.3 + 0.1 * i + 0.2 * n) for n in range(3))
        inner = torch.tanh(q * k + v) @ torch.randn(16, 32, generator=weights)
        x = 0.5 * x + torch.relu(inner) @ torch.randn(32, 16, generator=weights) * 0.4
        seen += [(f"block{i}.q", q), (f"block{i}.k", k), (f"block{i}.v", v), (f"block{i}.inner", inner), (f"block{i}.out", x)]
    return seen


def aligned(mine, theirs):
    return align_sequences([footprint(*entry) for entry in mine], [footprint(*entry) for entry in theirs])


def as_pairs(found):
    return {(pair.reference, pair.candidate) for pair in found.pairs}


def renamed(seen):
    return [(f"n{i}", tensor) for i, (_, tensor) in enumerate(seen)], {name: f"n{i}" for i, (name, _) in enumerate(seen)}


def test_the_same_run_under_other_names_is_paired_whole():
    theirs, truth = renamed(run())
    found = aligned(run(), theirs)
    assert as_pairs(found) == set(truth.items()) and not found.unpaired_reference and not found.unpaired_candidate


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 20), max_size=6), st.sets(st.integers(0, 20), max_size=6))
def test_tensors_missing_on_either_side_are_listed_and_pair_nobody_wrongly(lost, gone):
    mine = run()
    theirs, truth = renamed(mine)
    found = aligned([e for i, e in enumerate(mine) if i not in lost], [e for i, e in enumerate(theirs) if i not in gone])
    assert {(p.reference, p.candidate) for p in found.pairs if p.likeness >= CERTAIN} <= set(truth.items())
    both = [name for i, (name, _) in enumerate(mine) if i not in lost and i not in gone]
    assert {pair.reference for pair in found.pairs if pair.likeness >= CERTAIN} == set(both)
    paired = {pair.reference for pair in found.pairs} | set(found.unpaired_reference)
    assert paired == {name for i, (name, _) in enumerate(mine) if i not in lost}


def test_runs_that_parted_are_still_paired_by_order_and_size():
    theirs, truth = renamed(run(seed=1))
    found = aligned(run(seed=0), theirs)
    assert len(as_pairs(found) & set(truth.items())) >= 0.7 * len(truth)
    assert not [pair for pair in found.pairs if pair.likeness >= CERTAIN and truth[pair.reference] != pair.candidate]


def test_fused_projections_and_batched_branches_are_found_as_parts():
    mine = run(layers=2)
    fused = []
    for name, tensor in mine:
        if name.endswith(".q"):
            fused.append((f"f{name[:6]}", torch.cat([dict(mine)[name[:-1] + part] for part in "qkv"], -1)))
        elif not name.endswith((".k", ".v")):
            fused.append((f"f{name}", tensor))
    parts = {(p.reference, p.candidate): p.part for p in aligned(mine, fused).pairs if p.part}
    assert parts[("block1.k", "fblock1")] == ("candidate", 2, 16, 32)
    assert len(parts) == 6
    one, other = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    found = aligned([("uncond", one), ("cond", other)], [("both", torch.cat([one, other]))])
    assert {(p.reference, p.part) for p in found.pairs} == {("uncond", ("candidate", 0, 0, 1)), ("cond", ("candidate", 0, 1, 2))}


def test_another_layout_and_another_order_of_calls_do_not_matter():
    mine = run(layers=2)
    theirs, truth = renamed([(name, t.transpose(1, 2)) for name, t in mine])
    theirs[2], theirs[3] = theirs[3], theirs[2]
    assert as_pairs(aligned(mine, theirs)) == set(truth.items())


def test_what_only_repeats_an_earlier_tensor_is_an_alias():
    mine = run(layers=1)
    found = aligned([*mine, ("block0", mine[-1][1])], renamed(mine)[0])
    assert found.aliases_reference == {"block0": "block0.out"} and not found.unpaired_reference


@pytest.mark.parametrize("sides", [([], []), (run(layers=1), [])])
def test_empty_recordings_pair_nothing(sides):
    assert aligned(*sides).pairs == []
