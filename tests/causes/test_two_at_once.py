"""What one bug must not hide, or pass off as another: lengths, sizes, masks and layers beside other differences."""

import torch
from recorded_lab import finding, lab_of, normal, trace

import whydiff
from whydiff.causes.inside.explain import _hands_over_less
from whydiff.causes.inside.inside import Inside
from whydiff.causes.prompt import ids, layers, masks


def encoder(skip: int):
    """Twelve rows of a rendered text, of which a template's `skip` are left out."""

    def pipe(seed=0, max_sequence_length=12):
        rows = whydiff.tap("prompt_embeds", normal(1, 12, 8)[:, skip:][:, :max_sequence_length])
        return whydiff.tap("image", rows[:, :4, :3].sigmoid()[:, None])

    return pipe


def test_rows_that_can_be_cut_to_a_length_are_not_for_that_reason_of_another_length():
    verdict = whydiff.diagnose(reference=encoder(3), candidate=encoder(0), call={"seed": 0}).to_dict()
    assert [cause["id"] for cause in verdict["causes"]] == ["template-prefix-not-cropped"]


def painter(exchanged: bool):
    def pipe(height=8, width=8, seed=0):
        height, width = (width, height) if exchanged else (height, width)
        noise = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))
        return whydiff.tap("image", whydiff.tap("initial_noise", noise).movedim(1, -1)[..., :3].sigmoid())

    return pipe


def test_the_side_that_does_not_make_the_size_it_is_asked_for_departs():
    for sides, departs in (((True, False), "reference"), ((False, True), "candidate")):
        reference, candidate = map(painter, sides)
        cause = whydiff.diagnose(reference=reference, candidate=candidate, call={"height": 8, "width": 16, "seed": 0}).to_dict()["causes"][0]
        assert (cause["id"], cause["departs"]) == ("height-width-swapped", departs)


def test_rows_filled_up_to_another_length_are_not_cut_at_another_place():
    rows = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
    longer = torch.cat([rows, torch.zeros(2, 3, dtype=torch.long)], 1)
    lab = lab_of(trace({"input_ids": rows}, {"prompt": "a"}), trace({"input_ids": longer}, {"prompt": "a"}))
    assert ids._chunked(finding(lab, "input_ids"), lab) == []


def test_hidden_states_are_found_in_the_rows_of_prompts_of_different_lengths():
    state = normal(2, 9, 4)
    block = state[:, 3:].clone()
    block[1, 4:] = 0
    found = layers._aligned(state, block, torch.equal)
    assert found is not None and torch.equal(found, block)
    block[1, 0] = 0
    assert layers._aligned(state, block, torch.equal) is None


class Encoder(torch.nn.Module):
    def forward(self, ids, attend_to=None):
        return ids


def test_an_encoder_of_a_port_has_a_mask_by_another_name():
    class Side:
        components = {"text_encoder": Encoder(), "vae": torch.nn.Linear(1, 1)}

    assert masks._maskable(Side) == {"text_encoder": ("ids", "attend_to")}


def test_code_that_hands_over_an_argument_less_is_told_with_the_modules_that_lack_it():
    network = Inside({"reference": "net", "candidate": "net"}, {}, {}, {}, 1.0, 0.0, 0, "model_forward", "input",
                     handed={"net/a": float("inf"), "net/b": float("inf")})  # fmt: skip
    assert _hands_over_less(network, ["net/a", "net/b"], [network])
    assert not _hands_over_less(network, ["net/a"], [network])
    network.handed["net/b"] = 0.5
    assert not _hands_over_less(network, ["net/a", "net/b"], [network])
