"""Weights are recognised by their values under other names, fused, split and reordered; what is not is said."""

import torch

from whydiff.audits import model_state
from whydiff.audits.weights import pair_weights


class Separate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name in ("q", "k", "v"):
            self.register_parameter(name, torch.nn.Parameter(torch.randn(4, 6, generator=generator)))
        self.register_buffer("positions", torch.arange(5), persistent=False)


class Fused(torch.nn.Module):
    def __init__(self, *parts, name="qkv"):
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(torch.cat(parts)))


def test_one_tree_pairs_by_name():
    pairing = pair_weights(Separate(), Separate())
    assert pairing.complete and pairing.same_name == ["q", "k", "v", "positions"]


def test_a_changed_weight_is_named():
    other = Separate()
    with torch.no_grad():
        other.k[0, 0] += 1
    pairing = pair_weights(Separate(), other)
    assert pairing.changed == ["k"] and not pairing.complete


def test_fused_rows_are_found_in_both_directions():
    one = Separate()
    other = Fused(one.q, one.k, one.v)
    for pairing in (pair_weights(one, other), pair_weights(other, one)):
        assert pairing.fused == [(("q", "k", "v"), "qkv")] and pairing.complete


def test_exchanged_halves_are_the_same_values_in_another_order():
    scale_shift = torch.randn(8, 6)
    one, other = Fused(scale_shift, name="a"), Fused(scale_shift[4:], scale_shift[:4], name="b")
    pairing = pair_weights(one, other)
    assert pairing.reordered == [("a", "b")] and pairing.complete


def test_what_code_makes_is_listed_and_not_held_against_a_side():
    one = Separate()
    pairing = pair_weights(one, Fused(one.q, one.k, one.v))
    assert pairing.made == ["positions"] and pairing.complete


def test_an_unknown_part_has_no_counterpart():
    one = Separate()
    pairing = pair_weights(one, Fused(one.q, one.k, torch.zeros(4, 6)))
    assert pairing.fused == [(("q", "k"), "qkv")]
    assert pairing.only_candidate == ["qkv"] and pairing.only_reference == ["v"] and not pairing.complete


def test_a_cast_is_read_in_the_narrower_type():
    one = Separate()
    cast = Separate().to(torch.bfloat16)
    assert pair_weights(one, cast).complete


def test_weights_that_one_side_alone_has_are_a_finding_and_make_the_sides_different():
    one, other = Separate(), Separate()
    del other._parameters["v"]
    pairing = pair_weights(one, other)
    assert pairing.only_reference == ["v"] and model_state.one_side_alone(pairing)
    assert model_state.nowhere(pairing) == "1 weight of the reference is nowhere in the candidate, first v"
    both = pair_weights(one, Fused(one.q, one.k, torch.zeros(4, 6)))
    assert not model_state.one_side_alone(both) and "nothing is claimed" in model_state.nowhere(both)
