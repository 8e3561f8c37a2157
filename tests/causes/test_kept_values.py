"""Values kept in 16 bits, and masks that reach the network: both are read from recorded tensors."""

import pytest
import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes import precision
from whydiff.causes.prompt import masks
from whydiff.causes.registry import explain
from whydiff.engine.rows import finer
from whydiff.evidence.floor import own_ulp
from whydiff.places import Place

FINE = normal(1, 4, 8, 8)
MASK = torch.tensor([[1, 1, 1, 0, 0, 0]])


def found(mine, theirs, probe="latents", ask=precision.explain_rounded):
    lab = lab_of(trace({Place(probe, 0): mine}), trace({Place(probe, 0): theirs}))
    return ask(finding(lab, probe), lab)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("departs", ["candidate", "reference"])
def test_latents_rounded_once_are_named_on_the_side_that_rounds(dtype, departs):
    pair = FINE, FINE.to(dtype).float()
    [entry] = found(*(pair if departs == "candidate" else pair[::-1]))
    assert (entry.id, entry.departs, entry.stage) == ("undeclared-dtype", departs, "scheduler_step")


def test_arithmetic_in_16_bits_and_other_values_are_not_one_rounding():
    low = FINE.to(torch.bfloat16)
    assert found(FINE, ((low + 1) - 1).float()) == []
    assert found(FINE, (1.01 * FINE).to(torch.bfloat16).float()) == []
    assert found(FINE, FINE + 1e-3) == []
    assert found(low.float(), (1.01 * FINE).to(torch.bfloat16).float()) == []


def masked(mine, theirs, probe="model_input/encoder_attention_mask"):
    return found(mine, theirs, probe, lambda f, lab: explain(f, lab))


@pytest.mark.parametrize("form", [lambda m: m, lambda m: m.bool(), lambda m: (1 - m.float()) * -10000.0])
def test_a_mask_of_ones_drops_the_mask_of_the_other_side(form):
    for pair, side in (((MASK, torch.ones_like(MASK)), "candidate"), ((torch.ones_like(MASK), MASK), "reference")):
        [entry] = masked(*map(form, pair))
        assert (entry.id, entry.relation["side"], entry.relation["left_out"]) == ("attention-mask-dropped", side, 3)


def test_a_mask_read_the_other_way_round_is_inverted_and_another_mask_has_no_name():
    assert [e.id for e in masked(MASK, 1 - MASK)] == ["attention-mask-inverted"]
    assert masked(MASK, MASK.roll(1, 1)) == []
    assert masked(MASK, torch.ones_like(MASK), "model_input/control") == []


def test_the_tokenizers_mask_is_recognised():
    lab = lab_of(*(trace({"attention_mask": MASK, Place("model_input/attention_mask", 0): m}) for m in (torch.ones_like(MASK), MASK)))
    [entry] = masks.of_network(finding(lab, "model_input/attention_mask"), lab)
    assert "as its tokenizer's mask does" in entry.statement


@pytest.mark.parametrize("departs", ["candidate", "reference"])
def test_whole_numbers_beside_rounded_timesteps_are_known_exactly(departs):
    lists = [torch.tensor([801, 601, 401, 201]), torch.tensor([801.0, 601.0, 401.0, 201.0], dtype=torch.bfloat16)]
    tensor = finer(*(lists if departs == "candidate" else lists[::-1]))
    assert own_ulp(tensor) == torch.finfo(torch.float32).eps
