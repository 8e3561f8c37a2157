"""Outputs of two implementations are paired by what they hold, whatever their names, order and layout."""

import torch

from whydiff.measure.alignment import Output, align


def outputs(names: str, seed: int = 0) -> list[Output]:
    """One output of random values for each letter; the same letter has the same values."""
    return [Output(name, torch.randn(4, 6, generator=torch.Generator().manual_seed(seed + ord(name)))) for name in names]


def pairs(alignment) -> list[tuple[str, str]]:
    return [(pair.reference, pair.candidate) for pair in alignment.pairs]


def test_equal_sequences_pair_one_by_one():
    alignment = align(outputs("abc"), outputs("abc"))
    assert pairs(alignment) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert all(pair.difference == 0.0 for pair in alignment.pairs)


def test_what_only_one_side_has_stays_unpaired():
    alignment = align(outputs("abcd"), outputs("axd"))
    assert pairs(alignment) == [("a", "a"), ("d", "d")]
    assert alignment.unpaired_reference == ["b", "c"] and alignment.unpaired_candidate == ["x"]


def test_another_order_of_execution_is_no_obstacle_and_pairs_come_in_the_reference_s():
    alignment = align(outputs("abc"), outputs("cab"))
    assert pairs(alignment) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_another_shape_of_as_many_elements_pairs_and_another_number_does_not():
    a, b = outputs("ab")
    alignment = align([a, b], [Output("flat", a.tensor.reshape(24)), Output("cut", b.tensor[:, :5])])
    assert pairs(alignment) == [("a", "flat")]


def test_a_disturbed_output_is_paired_with_its_difference():
    [a] = outputs("a")
    [pair] = align([a], [Output("a", a.tensor * 1.1)]).pairs
    assert abs(pair.difference - 0.1) < 1e-6 and pair.similarity > 0.999


def test_of_equal_outputs_the_likelier_name_is_chosen():
    values = torch.randn(8)
    alignment = align([Output("net/block.proj", values)], [Output("net/drop", values), Output("net/block.proj", values)])
    assert pairs(alignment) == [("net/block.proj", "net/block.proj")]


def test_nothing_aligns_with_nothing():
    assert align([], outputs("a")).unpaired_candidate == ["a"]
