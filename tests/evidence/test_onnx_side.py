"""A pipeline whose networks are ONNX files is a side like any other: sound exports agree, unsound ones are found."""

import pathlib
import sys

import pytest
import torch

import whydiff

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from whydiff.evidence.sides.onnx_module import OnnxModule

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "data" / "cases"))
import sides

CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 2, "max_sequence_length": 16, "seed": 0}
AUTO = torch.export.Dim.AUTO


class Decoder(torch.nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, z):
        return self.vae.decode(z, return_dict=False)[0]


def seen_inputs(pipe):
    """What the transformer receives in a run."""
    kept = {}
    handle = pipe.transformer.register_forward_pre_hook(lambda _m, _args, kwargs: kept.update(kwargs), with_kwargs=True)
    whydiff_call = {key: value for key, value in CALL.items() if key != "seed"}
    pipe(**whydiff_call, generator=torch.Generator().manual_seed(0))
    handle.remove()
    return {key: value for key, value in kept.items() if isinstance(value, torch.Tensor)}


def exported(module, inputs, path, **options):
    torch.onnx.export(module, (), str(path), kwargs=inputs, dynamo=True, verbose=False, **options)
    return path


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    pipe = sides.reference()
    inputs = seen_inputs(pipe)
    dynamic = {name: {1: AUTO} if value.ndim == 3 else {0: AUTO} if name.endswith("ids") else None for name, value in inputs.items()}
    folder = tmp_path_factory.mktemp("onnx")
    return exported(pipe.transformer, inputs | {"return_dict": False}, folder / "transformer.onnx",
                    dynamic_shapes=dynamic | {"return_dict": None})  # fmt: skip


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    pipe = sides.reference()
    latents = torch.zeros(1, pipe.vae.config.latent_channels, 12, 16)
    return exported(Decoder(pipe.vae).eval(), {"z": latents}, tmp_path_factory.mktemp("onnx") / "vae.onnx", dynamic_shapes={"z": {2: AUTO, 3: AUTO}})


def with_networks(transformer=None, decoder=None):
    pipe = sides.reference()
    if transformer is not None:
        pipe.transformer = OnnxModule(transformer, like=pipe.transformer)
    if decoder is not None:
        pipe.vae = OnnxModule(decoder, like=pipe.vae, method="decode")
    return pipe


def test_sound_exports_of_transformer_and_decoder_agree_at_another_size_too(transformer, decoder):
    for size in ({}, {"height": 64, "width": 64}):
        verdict = whydiff.diagnose(reference=sides.reference(), candidate=with_networks(transformer, decoder), call=CALL | size)
        assert verdict.verdict == "within_noise", str(verdict)


@pytest.mark.thorough
def test_a_constant_folded_at_export_is_found(tmp_path):
    """The guidance of the day of the export, for ever."""
    pipe = sides.reference()
    inputs = seen_inputs(pipe)

    class Folded(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, hidden_states, encoder_hidden_states, pooled_projections, timestep, img_ids, txt_ids):
            return self.inner(hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, timestep=timestep,
                              pooled_projections=pooled_projections, guidance=torch.tensor([3.5]), img_ids=img_ids, txt_ids=txt_ids,
                              return_dict=False)[0]  # fmt: skip

    guidance = inputs.pop("guidance")
    assert float(guidance) == 3.5
    path = exported(Folded(pipe.transformer).eval(), inputs, tmp_path / "folded.onnx")
    same = whydiff.diagnose(reference=sides.reference(), candidate=with_networks(path), call=CALL | {"guidance_scale": 3.5})
    assert same.verdict == "within_noise", str(same)
    verdict = whydiff.diagnose(reference=sides.reference(), candidate=with_networks(path), call=CALL | {"guidance_scale": 7.0})
    assert [cause.id for cause in verdict.causes] == ["export-constant-folded"], str(verdict)
    assert "guidance" in verdict.causes[0].statement


@pytest.mark.filterwarnings("ignore")
def test_an_export_without_eval_is_found(tmp_path):
    """Dropout that only a network in training mode has, kept by the older exporter."""
    def with_dropout():
        pipe = sides.reference()
        pipe.vae.decoder.mid_block.resnets[0].dropout.p = 0.2
        return pipe

    candidate, path = with_dropout(), tmp_path / "trained.onnx"
    latents = torch.zeros(1, candidate.vae.config.latent_channels, 12, 16)
    torch.onnx.export(Decoder(candidate.vae).train(), (latents,), str(path), dynamo=False, input_names=["z"],
                      training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)  # fmt: skip
    candidate.vae = OnnxModule(path, like=candidate.vae, method="decode", optimize=False)
    verdict = whydiff.diagnose(reference=with_dropout(), candidate=candidate, call=CALL)
    assert verdict.verdict == "different" and verdict.first_divergence["probe"] == "decoded", str(verdict)
    assert any("not deterministic" in note for note in verdict.notes)


def test_what_is_no_graph_is_one_clear_line(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    module = torch.nn.Linear(2, 2)
    with pytest.raises(whydiff.Trouble, match="cannot run it"):
        OnnxModule(tmp_path / "x.onnx", like=module)
    with pytest.raises(whydiff.Trouble, match="does not exist"):
        OnnxModule(tmp_path / "y.onnx", like=module)
