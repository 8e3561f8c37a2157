"""What was not compared is counted, and said in the headline."""

import copy
from types import SimpleNamespace

import torch
from torch import nn

from whydiff.engine.coverage import not_compared, outputs_compared, weights_compared


def lab_of(*networks):
    sides = [None if network is None else SimpleNamespace(components={"net": network}) for network in networks]
    return SimpleNamespace(sides=dict(zip(("reference", "candidate"), sides, strict=True)), notes=[], modules_compared={}, apart=False)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4))


def test_weights_of_both_sides_are_counted_with_those_that_differ():
    one = network()
    other = copy.deepcopy(one)
    other[1].weight.data[0, 0] += 1
    assert weights_compared(lab_of(one, other)) == {"parameters": 4, "parameters_unpaired": [], "parameters_differ": ["net/1.weight"]}


def test_a_weight_without_counterpart_is_in_the_headline():
    one = network()
    other = nn.Sequential(*copy.deepcopy(one), nn.Linear(4, 5))
    counted = weights_compared(lab_of(one, other))
    assert counted["parameters_unpaired"] == ["candidate: net/2.weight", "candidate: net/2.bias"]
    assert not_compared(counted) == "2 parameters"


def test_sides_without_modules_count_nothing():
    assert weights_compared(lab_of(network(), None)) == {}


def test_outputs_of_all_stages_looked_into_are_added_up():
    lab = lab_of(network(), network())
    assert outputs_compared(lab) == {}
    lab.modules_compared = {"vae": {"modules": 2, "modules_unpaired": ["reference: vae/a"]}, "model_forward": {"modules": 3, "modules_unpaired": []}}
    counted = outputs_compared(lab)
    assert counted == {"modules": 5, "modules_unpaired": ["reference: vae/a"]}
    assert not_compared(counted | {"unpaired_reference": ["sigmas", "latents"]}) == "2 tensors, 1 output of a module"
