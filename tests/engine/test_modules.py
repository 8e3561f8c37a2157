"""An unexplained difference of a network is followed down to the module that makes it, in other trees of modules too."""


import pytest
import torch

import whydiff

CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 2, "max_sequence_length": 16, "seed": 0}


def heavier(module):
    module.weight.data *= 1.02


def scaled_attention(pipeline):
    attention = pipeline.transformer.transformer_blocks[0].attn
    plain = type(attention.processor)

    class Scaled(plain):
        def __call__(self, *args, **kwargs):
            return tuple(1.01 * part for part in super().__call__(*args, **kwargs))

    attention.processor = Scaled()


def positions_exchanged(pipeline):
    forward = pipeline.transformer.forward
    pipeline.transformer.forward = lambda *a, **k: forward(*a, **k | {"img_ids": k["img_ids"][:, [0, 2, 1]]})


DAMAGES = [
    (lambda p: heavier(p.transformer.transformer_blocks[1].ff.net[2]), "noise_pred_text", "transformer/transformer_blocks.1.ff.net.2"),
    (lambda p: heavier(p.text_encoder_2.encoder.block[1].layer[0].SelfAttention.v), "prompt_embeds",
     "text_encoder_2/encoder.block.1.layer.0.SelfAttention.v"),
    (lambda p: heavier(p.vae.decoder.up_blocks[0].resnets[0].conv1), "decoded", "vae/decoder.up_blocks.0.resnets.0.conv1"),
    (lambda p: setattr(p.transformer.transformer_blocks[0].norm1.norm, "eps", 1e-3), "noise_pred_text",
     "transformer/transformer_blocks.0.norm1.norm"),
    (scaled_attention, "noise_pred_text", "transformer/transformer_blocks.0.attn"),
    (positions_exchanged, "noise_pred_text", "transformer"),
]  # fmt: skip


@pytest.mark.parametrize("damage, probe, module", DAMAGES, ids=[module for *_, module in DAMAGES])
def test_the_module_that_makes_the_difference_is_named_and_no_cause_invented(sides, damage, probe, module):
    candidate = sides.reference()
    damage(candidate)
    verdict = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL)
    assert verdict.causes == []
    assert verdict.first_divergence["probe"] == probe
    (place,) = verdict.unexplained
    assert (place["probe"], place["module"]) == ("modules", module)
    assert place["difference"] > place["noise_floor"]


def test_a_module_of_another_tree_is_named_with_its_counterpart(sides):
    candidate = sides.port()
    heavier(candidate.components["transformer"].double_blocks[1].img_mlp[2])
    (place,) = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL).unexplained
    assert (place["module"], place["module_reference"]) == ("transformer/double_blocks.1.img_mlp.2",
                                                            "transformer/transformer_blocks.1.ff.net.2")  # fmt: skip


@pytest.mark.parametrize("dtype, declared, verdict, causes", [
    ("bfloat16", {"dtype": "bfloat16"}, "precision", []),
    ("bfloat16", {}, "different", ["undeclared-dtype"]),
    ("float16", {}, "different", ["undeclared-dtype"]),
])  # fmt: skip
def test_a_lower_precision_is_measured_where_declared_and_named_where_not(sides, dtype, declared, verdict, causes):
    found = whydiff.diagnose(reference=sides.reference(), candidate=sides.port(dtype=dtype), call=CALL, declares={"candidate": declared})
    assert found.verdict == verdict
    assert [cause.id for cause in found.causes] == causes and found.unexplained == []
    assert bool(found.declared) == bool(declared)


def test_a_declared_precision_hides_no_bug(sides):
    candidate = sides.port(dtype="bfloat16", apply_rope=False, sigma_min=0.001)
    found = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL, declares={"candidate": {"dtype": "bfloat16"}})
    assert [cause.id for cause in found.causes] == ["sigma-grid-endpoints", "rope-not-applied"]


def test_casting_the_reference_for_its_twin_leaves_no_trace(sides):
    reference = sides.reference()
    before = {name: tensor.clone() for name, tensor in reference.transformer.state_dict().items()}
    whydiff.diagnose(reference=reference, candidate=sides.port(dtype="bfloat16"), call=CALL)
    after = reference.transformer.state_dict()
    assert all(torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items())
