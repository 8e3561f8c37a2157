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


def positions_shifted(pipeline):
    forward = pipeline.transformer.forward
    pipeline.transformer.forward = lambda *a, **k: forward(*a, **k | {"img_ids": 1.5 * k["img_ids"]})


DAMAGES = [
    (lambda p: heavier(p.transformer.transformer_blocks[1].ff.net[2]), "noise_pred_text", "transformer/transformer_blocks.1.ff.net.2"),
    (lambda p: heavier(p.text_encoder_2.encoder.block[1].layer[0].SelfAttention.v), "prompt_embeds",
     "text_encoder_2/encoder.block.1.layer.0.SelfAttention.v"),
    (lambda p: heavier(p.vae.decoder.up_blocks[0].resnets[0].conv1), "decoded", "vae/decoder.up_blocks.0.resnets.0.conv1"),
    (scaled_attention, "noise_pred_text", "transformer/transformer_blocks.0.attn"),
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


@pytest.mark.parametrize("damage, module, cause", [
    (lambda p: setattr(p.transformer.transformer_blocks[0].norm1.norm, "eps", 1e-3), "transformer/transformer_blocks.0.norm1.norm", "norm-eps"),
    (positions_exchanged, "transformer", "rope-axis-split"),
], ids=["eps", "positions"])  # fmt: skip
def test_a_module_whose_difference_an_experiment_explains_is_named_with_its_cause(sides, damage, module, cause):
    candidate = sides.reference()
    damage(candidate)
    verdict = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL)
    assert [(found.id, found.module) for found in verdict.causes] == [(cause, module)] and verdict.unexplained == []


EXPLAINED = [
    (lambda p: setattr(p.transformer.transformer_blocks[0].norm1.norm, "eps", 1e-3), "norm-eps", "transformer/transformer_blocks.0.norm1.norm"),
    (positions_exchanged, "rope-axis-split", "transformer"),
]  # fmt: skip


@pytest.mark.parametrize("role", ["candidate", "reference"])
@pytest.mark.parametrize("damage, cause, module", EXPLAINED, ids=[cause for _, cause, _ in EXPLAINED])
def test_a_module_whose_difference_an_experiment_shows_has_a_cause(sides, damage, cause, module, role):
    pipelines = {"reference": sides.reference(), "candidate": sides.reference()}
    damage(pipelines[role])
    verdict = whydiff.diagnose(**pipelines, call=CALL)
    assert [(c.id, c.module) for c in verdict.causes] == [(cause, module)] and verdict.unexplained == []


def test_one_cause_in_many_modules_is_one_cause_and_another_beside_it_is_told(sides):
    candidate = sides.reference()
    for block in candidate.transformer.single_transformer_blocks:
        block.act_mlp = torch.nn.GELU()
    heavier(candidate.transformer.transformer_blocks[1].ff.net[2])
    verdict = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL)
    assert [cause.id for cause in verdict.causes] == ["gelu-tanh-vs-exact"]
    assert [place["module"] for place in verdict.unexplained] == ["transformer/transformer_blocks.1.ff.net.2"]


def test_a_module_of_another_tree_is_named_with_its_counterpart(sides):
    candidate = sides.port()
    heavier(candidate.components["transformer"].double_blocks[1].img_mlp[2])
    (place,) = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL).unexplained
    assert (place["module"], place["module_reference"]) == ("transformer/double_blocks.1.img_mlp.2",
                                                            "transformer/transformer_blocks.1.ff.net.2")  # fmt: skip


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_code_of_a_module_of_another_tree_is_compared_with_the_module_that_receives_the_same(sides, role):
    """Only the code around a convolution differs: which modules of two trees it belongs to follows from what they receive."""
    pipelines = {"reference": sides.reference(), "candidate": sides.port()}
    other = {"reference": "candidate", "candidate": "reference"}[role]
    pipelines = {role: pipelines["candidate"], other: pipelines["reference"]}
    decoder = pipelines[role].components["vae"].decoder
    for module in decoder.modules():
        if hasattr(module, "conv") and not hasattr(module, "up"):
            module.forward = lambda x, _m=module: _m.conv(torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear"))
    verdict = whydiff.diagnose(**pipelines, call=CALL)
    assert [cause.id for cause in verdict.causes] == ["decoder-upsample-mode"] and verdict.unexplained == []


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
