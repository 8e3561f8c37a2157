"""Live text encoders: other words, other layers, other types; and what must not be named."""

import pytest
import torch
from prompt_toys import Encoding, Port, clip, t5, verdict


def causes(candidate, reference=None, **kwargs):
    found = verdict(reference or Encoding(), candidate, **kwargs)
    return [cause.id for cause in found.causes], found


def plain(text):
    return text.replace(",", "").replace("!", "")


@pytest.mark.parametrize("clean, rule", [(plain, "punctuation removed"), (lambda t: t.replace("e", "").upper(), None)])
def test_a_cleaned_prompt_is_told_from_another_text(clean, rule):
    ids, found = causes(Port(text=clean))
    assert ids == (["prompt-cleaning"] if rule else ["prompt"])
    if rule:
        assert found.causes[0].relation["rules"] == [rule]


def test_cleaning_on_the_reference_s_side_is_named_as_such():
    ids, found = causes(Port(), Encoding(text=plain))
    assert ids == ["prompt-cleaning"]
    assert found.causes[0].relation["side"] == "reference"


def test_a_text_that_nobody_asked_for_is_read_from_the_ids():
    ids, found = causes(Port(text=lambda t: "two blue squares"))
    assert ids == ["prompt"]
    assert found.causes[0].relation["candidate"] == "two blue squares"


def test_the_tokens_of_a_template_are_shown():
    ids, found = causes(Port(text=lambda t: f"a photo of {t}"))
    assert ids == ["prompt-template-dropped"]
    assert "a photo of" in found.causes[0].statement


def test_another_layer_is_found_among_the_hidden_states():
    ids, found = causes(Port(layers=(-1,)))
    assert ids == ["clip-skip"]
    assert (found.causes[0].relation["reference"], found.causes[0].relation["candidate"]) == ([5], [6])


@pytest.mark.parametrize("layers, expected", [((2, 3, 5), "hidden-state-index-base"), ((1, 3, 5), "wrong-layer-list")])
def test_a_list_of_layers_that_is_off_by_one_is_told_from_another_list(layers, expected):
    ids, found = causes(Port(layers=layers), Encoding(layers=(1, 2, 4)))
    assert expected in [*ids, *found.causes[0].equivalent]
    assert ids == [expected]


def test_the_final_norm_on_one_side():
    assert causes(Port(normed=True))[0] == ["encoder-final-norm"]


def test_an_encoder_that_computes_otherwise_is_no_other_layer():
    """A block that does nothing leaves the layer before it; the cause lies inside, not in the choice of a layer."""
    broken = clip()
    broken.encoder.layers[4].forward = lambda hidden_states, *args, **kwargs: hidden_states
    ids, found = causes(Port(encoder=broken))
    assert not {"clip-skip", "hidden-state-index-base", "wrong-layer-list"} & set(ids)
    assert found.verdict == "different"


def test_a_factor_is_named_only_outside_of_the_encoder():
    assert causes(Port(change=lambda e: e * 1.5))[0] == ["prompt-embeds-scaled"]


def test_float16_that_overflows():
    huge = clip()
    for block in huge.encoder.layers:
        block.mlp.fc2.weight.data *= 3000
        block.mlp.fc1.weight.data *= 3000
    half = clip()
    half.load_state_dict(huge.state_dict())
    ids, found = causes(Port(encoder=half.half()), Encoding(encoder=huge))
    assert ids == ["text-encoder-nonfinite"]
    assert "mlp" in found.causes[0].module


def test_one_table_of_positions_used_in_every_block():
    shared = t5("UMT5")
    first, *others = [block.layer[0].SelfAttention for block in shared.encoder.block]
    for attention in others:
        attention.relative_attention_bias = first.relative_attention_bias
    ids, found = causes(Port(encoder=shared), Encoding(encoder=t5("UMT5")))
    assert ids == ["relative-bias-sharing"]
    assert (found.causes[0].relation["side"], found.causes[0].relation["blocks"]) == ("candidate", 3)


def test_modules_that_must_stay_in_float32():
    """T5's output projections exceed float16; transformers keeps them in float32 unless the whole model is cast afterwards."""
    sides = {"reference": Encoding(encoder=t5(), layers=(-1,)), "candidate": Port(encoder=t5(), layers=(-1,))}
    for role, side in sides.items():
        encoder = side.components["text_encoder"]
        for block in encoder.encoder.block:
            block.layer[1].DenseReluDense.wi_1.weight.data *= 3000
            block.layer[1].DenseReluDense.wo.weight.data *= 20
        kept = {name: p.data for name, p in encoder.named_parameters() if ".wo." in name}
        encoder.half()
        for name, p in encoder.named_parameters():
            if name in kept and role == "reference":
                p.data = kept[name]
    ids, found = causes(sides["candidate"], sides["reference"])
    assert ids == ["fp32-exempt-modules-lost"]
    assert found.causes[0].departs == "candidate"


def test_a_healthy_port_has_no_cause():
    ids, found = causes(Port())
    assert ids == [] and found.unexplained == []
    assert torch.is_tensor(Encoding().components["text_encoder"].embeddings.token_embedding.weight)
