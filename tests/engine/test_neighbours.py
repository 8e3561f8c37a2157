"""Does an item of a batch depend on its neighbours?"""

import torch

import whydiff
from whydiff.engine.budget import planned_runs
from whydiff.evidence.case import make_case

CALL = {"prompt": ["a red circle", "two blue squares"], "seed": 0}


def embed(prompts):
    return torch.stack([torch.randn(4, 12, generator=torch.Generator().manual_seed(len(p))) for p in prompts])


def side(prompt=(), seed=0):
    embeds = whydiff.tap("prompt_embeds", embed(prompt))
    return torch.sigmoid(whydiff.tap("decoded", embeds.reshape(-1, 4, 4, 3)))


def mixing(prompt=(), seed=0):
    embeds = embed(prompt)
    embeds = whydiff.tap("prompt_embeds", embeds + 0.1 * embeds.mean(0, keepdim=True))
    return torch.sigmoid(whydiff.tap("decoded", embeds.reshape(-1, 4, 4, 3)))


def notes(one, other, **call):
    return [n for n in whydiff.diagnose(reference=one, candidate=other, call=CALL | call).notes if "beside it" in n]


def test_an_item_that_follows_its_neighbours_is_told_with_the_place():
    found = notes(side, mixing)
    assert len(found) == 1 and found[0].startswith("candidate") and "prompt_embeds" in found[0]
    assert notes(mixing, side)[0].startswith("reference")


def test_items_of_their_own_and_single_prompts_tell_nothing():
    assert notes(side, side) == [] and notes(mixing, mixing, prompt=["a red circle"]) == []


def test_the_run_is_in_the_plan_only_where_a_batch_is_asked_for():
    def plan(prompt):
        return planned_runs(make_case({"reference": {"live": {"entry": "a.py:b", "call": {"prompt": prompt}}},
                                       "candidate": {"live": {"entry": "a.py:b", "call": {"prompt": "one"}}}}))  # fmt: skip

    one, two = plan("one"), plan(["one", "two"])
    assert two["reference"]["runs"] == one["reference"]["runs"] + 1 and "neighbours" in two["reference"]["words"]
    assert two["candidate"]["runs"] == one["candidate"]["runs"]
