"""Which rows of an embedding differ, told from recorded tensors alone."""

import pytest
import torch
from prompt_toys import Tensors

from whydiff.causes import prompt
from whydiff.places import Place

ROWS = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(1))
ZEROED = torch.cat([ROWS[:, :5], torch.zeros(1, 3, 12)], 1)


def explained(reference, candidate, probe="prompt_embeds", how=prompt.explain_embeds):
    lab = Tensors(reference, candidate) if isinstance(reference, dict) else Tensors({probe: reference}, {probe: candidate})
    return how(lab.finding(probe), lab)


def names(*args, **kwargs):
    return [e.id for e in explained(*args, **kwargs)]


def test_rows_of_padding_that_are_zero_on_one_side():
    (wrong,) = explained(ROWS, ZEROED)
    assert (wrong.id, wrong.relation["side"], wrong.relation["rows"]) == ("padded-rows-zeroed-wrongly", "candidate", 3)
    (missing,) = explained(ZEROED, ROWS)
    assert (missing.id, missing.equivalent) == ("padded-rows-not-zeroed", ["padded-rows-zeroed-wrongly"])


def test_zero_rows_are_no_cause_where_the_text_differs_too_or_is_what_was_zeroed():
    other = ZEROED.clone()
    other[:, 0] += 1
    assert names(ROWS, other) == []
    hole = ROWS.clone()
    hole[:, 3] = 0
    assert names(ROWS, hole) == []
    full = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 0]])
    assert names({"input_ids": full, "prompt_embeds": ROWS}, {"input_ids": full, "prompt_embeds": ZEROED}) == []


def test_the_negative_prompt_s_rows_belong_to_the_same_cause():
    zeroed = torch.cat([OTHER[:, :2], torch.zeros(1, 6, 12)], 1)
    (cause,) = explained({"prompt_embeds": ROWS, "negative_prompt_embeds": OTHER}, {"prompt_embeds": ZEROED, "negative_prompt_embeds": zeroed})
    assert "negative_prompt_embeds" in cause.covers
    (cause,) = explained({"prompt_embeds": ROWS, "negative_prompt_embeds": OTHER}, {"prompt_embeds": ZEROED, "negative_prompt_embeds": OTHER + 1})
    assert "negative_prompt_embeds" not in cause.covers


@pytest.mark.parametrize("k", [1, 3])
def test_rows_further_down_are_a_template_that_was_not_cropped(k):
    (cause,) = explained(ROWS[:, k:], ROWS, how=prompt.explain_embed_shapes)
    assert (cause.id, cause.relation["rows"], cause.relation["side"]) == ("template-prefix-not-cropped", k, "candidate")
    moved = torch.cat([OTHER[:, :k], ROWS[:, : 8 - k]], 1)
    assert names(ROWS, moved) == ["template-prefix-not-cropped"]


def test_rows_that_come_round_at_the_other_end_are_not_cropped():
    assert names(ROWS, ROWS.roll(2, 1)) == []


def test_rows_behind_are_a_longer_text_or_more_padding():
    longer = torch.cat([ROWS, OTHER], 1)
    assert names(ROWS, longer, how=prompt.explain_embed_shapes) == ["long-prompt-truncated"]
    padded = torch.cat([ROWS, torch.zeros(1, 5, 12)], 1)
    assert names(ROWS, padded, how=prompt.explain_embed_shapes) == ["max-sequence-length"]
    assert names(ROWS, torch.cat([OTHER, ROWS[:, :4]], 1)[:, :11], how=prompt.explain_embed_shapes) == []


def test_chunks_that_only_the_negative_prompt_lacks():
    both = torch.cat([ROWS, OTHER], 1)
    found = names({"prompt_embeds": both, "negative_prompt_embeds": both}, {"prompt_embeds": both, "negative_prompt_embeds": ROWS},
                  "negative_prompt_embeds", prompt.explain_embed_shapes)  # fmt: skip
    assert found == ["chunk-count-pos-neg"]


def test_zeros_in_place_of_an_encoded_negative_prompt():
    (cause,) = explained(ROWS, torch.zeros_like(ROWS), "negative_prompt_embeds")
    assert (cause.id, cause.stage, cause.relation["side"]) == ("negative-zeros-vs-empty", "guidance", "candidate")
    assert names(ROWS, torch.zeros_like(ROWS)) == []  # a prompt that is zero is something else


def test_pooled_embeddings_exchanged_between_the_branches():
    probe = "model_input/pooled_projections"
    a, b = ROWS[:, 0], OTHER[:, 0]
    cond, uncond = (Place(probe, 0, branch) for branch in ("cond", "uncond"))
    for candidate, expected in (((b, a), ["pooled-order-swapped"]), ((b, b), [])):
        lab = Tensors({cond: a, uncond: b}, dict(zip((cond, uncond), candidate)))
        assert [e.id for e in prompt.explain_network_input(lab.finding(probe, 0, ("cond", "uncond")), lab)] == expected


def test_values_that_are_not_finite():
    bad = ROWS.clone()
    bad[0, 2] = float("nan")
    (cause,) = explained(ROWS, bad)
    assert (cause.id, cause.relation["candidate"], cause.departs) == ("text-encoder-nonfinite", 12, "candidate")
    (cause,) = explained(bad, ROWS)
    assert cause.departs == "reference"


def test_one_factor_for_all_values():
    (cause,) = explained(ROWS, ROWS * 1.5)
    assert (cause.id, cause.relation["factor"]) == ("prompt-embeds-scaled", 1.5)
    assert names(ROWS, ROWS * 1.5 + OTHER * 0.01) == []


def ids(*rows):
    return {"input_ids": torch.tensor(rows)}


def test_recorded_ids_alone_name_padding_start_tokens_and_templates():
    reference = ids([180, 7, 8, 9, 181, 181, 181, 181])
    for candidate, expected in (([180, 7, 8, 9, 181, 0, 0, 0], ["pad-token-id"]), ([180, 180, 7, 8, 9, 181, 181, 181], ["double-bos"]),
                                ([180, 4, 5, 7, 8, 9, 181, 181], ["prompt-template-dropped"]),
                                ([181, 181, 181, 180, 7, 8, 9, 181], ["padding-side"]), ([180, 7, 6, 9, 181, 181, 181, 181], [])):  # fmt: skip
        assert names(reference, ids(candidate), "input_ids", prompt.explain_ids) == expected


def test_a_mask_that_is_turned_like_its_ids_follows_from_them():
    behind = ids([7, 8, 9, 1, 0, 0, 0]) | {"attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0, 0]])}
    front = ids([0, 0, 0, 7, 8, 9, 1]) | {"attention_mask": torch.tensor([[0, 0, 0, 1, 1, 1, 1]])}
    (cause,) = explained(behind, front, "input_ids", prompt.explain_ids)
    assert cause.covers == {"attention_mask"}
    (cause,) = explained(behind, front | {"attention_mask": torch.ones(1, 7)}, "input_ids", prompt.explain_ids)
    assert not cause.covers


def test_recorded_ids_of_other_lengths():
    reference = ids([180, 7, 8, 9, 181, 181])
    assert names(reference, ids([180, 7, 8, 9, 181, 181, 181, 181]), "input_ids", prompt.explain_id_lengths) == ["max-sequence-length"]
    assert names(ids([180, 7, 8, 9, 6, 181]), ids([180, 7, 8, 181]), "input_ids", prompt.explain_id_lengths) == ["max-sequence-length"]
    assert names(reference, ids([180, 7, 5, 9, 181, 181, 181]), "input_ids", prompt.explain_id_lengths) == []


def test_the_negative_prompt_encoded_without_the_image():
    first, second = Place("input_ids"), Place("input_ids", occurrence=1)
    same, text = torch.tensor([[1, 2, 3]]), [4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0]
    image = [4, 50, 51, 51, 51, 51, 51, 52, 5, 6, 7, 0, 0]
    lab = Tensors({first: same, second: torch.tensor([image])}, {first: same, second: torch.tensor([text])})
    finding = lab.finding("input_ids")
    finding.places, finding.reference = [second], {second: torch.tensor([image])}
    (cause,) = prompt.explain_ids(finding, lab)
    assert (cause.id, cause.stage, cause.departs, cause.relation["reference"]) == ("negative-image-dropped", "guidance", "candidate", 5)


def test_a_mask_that_admits_everything():
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    assert names(mask, torch.ones_like(mask), "attention_mask", prompt.explain_mask) == ["encoder-mask-passed-or-not"]
    assert names(mask, torch.tensor([[1, 1, 0, 0, 0]]), "attention_mask", prompt.explain_mask) == []


def test_rows_of_a_second_encoder_that_hold_words_are_no_padding():
    """CLIP's rows and T5's behind one another: the ids of neither have as many tokens as there are rows."""
    words = {"input_ids": torch.tensor([[180, 7, 8, 181, 181]]), "input_ids_3": torch.tensor([[7, 8, 9, 1, 0]])}
    both = torch.cat([ROWS[:, :5], OTHER[:, :5]], 1)
    for gone, expected in ((1, ["padded-rows-not-zeroed"]), (5, [])):
        zeroed = both.clone()
        zeroed[:, -gone:] = 0
        assert names(words | {"prompt_embeds": zeroed}, words | {"prompt_embeds": both}) == expected
