"""Other tools' dumps become traces: by the tool that made them, and with what they lost said aloud."""

import json
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from whydiff.errors import Trouble
from whydiff.evidence.readers import import_dump
from whydiff.evidence.readers.names import place_of
from whydiff.places import Place

DUMPS = pathlib.Path(__file__).parent / "dumps"

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "simple",
                                               "denoise": 1.0, "model": ["66", 0], "positive": ["35", 0], "negative": ["7", 0],
                                               "latent_image": ["5", 0]}},
    "66": {"class_type": "ModelSamplingAuraFlow", "inputs": {"shift": 3.1, "model": ["4", 0]}},
    "4": {"class_type": "UNETLoader", "inputs": {"unet_name": "qwen.safetensors", "weight_dtype": "default"}},
    "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 48, "batch_size": 1}},
    "35": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red circle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
}  # fmt: skip


def test_sglang_dumps_have_their_steps_probes_and_modules():
    trace = import_dump(DUMPS / "sglang")
    assert trace.producer["format"] == "sglang"
    assert [p for p in trace if p.probe == "latents"] == [Place("latents", 0), Place("latents", 1)]
    assert trace[Place("latents", 1)].shape == (1, 6, 4)
    assert Place("modules", 0, module="1.output") in trace
    assert not [p for p in trace if p.rank is not None]
    # The loop that was dumped: latents - 0.5 * noise_pred.
    update = trace[Place("modules", 0, module="inputs.0")] - 0.5 * trace[Place("noise_pred", 0)]
    assert torch.equal(update, trace[Place("latents", 0)])


def test_sglang_dumps_of_two_ranks_keep_each_ranks_part():
    trace = import_dump(DUMPS / "sglang_two_ranks")
    parts = [trace[Place("noise_pred", 0, rank=rank)] for rank in (0, 1)]
    assert torch.allclose(torch.cat(parts, 1), import_dump(DUMPS / "sglang")[Place("noise_pred", 0)])
    assert "2 ranks" in trace.producer["notes"][0]


def test_a_comfyui_latent_is_what_the_decoder_receives_and_an_old_one_is_scaled(tmp_path):
    """Written here as ComfyUI's nodes.py documents it."""
    values = torch.randn(1, 4, 6, 8)
    save_file({"latent_tensor": values, "latent_format_version_0": torch.tensor([])}, tmp_path / "new.latent",
              metadata={"prompt": json.dumps(GRAPH)})  # fmt: skip
    new = import_dump(tmp_path / "new.latent")
    assert torch.equal(new["vae_latents"], values)
    assert new.settings["shift"] == 3.1 and new.settings["prompt"] == "a red circle"
    save_file({"latent_tensor": values}, tmp_path / "old.latent")
    old = import_dump(tmp_path / "old.latent")
    assert torch.allclose(old["vae_latents"], values / 0.18215) and "0.18215" in old.producer["notes"][0]


def test_a_conditioning_keeps_its_options_and_a_bare_tensor_says_what_is_lost(tmp_path):
    """Written here as ComfyUI keeps conditionings: a list of [tensor, options]."""
    embeds, pooled, picture = torch.randn(1, 7, 8), torch.randn(1, 8), torch.randn(1, 16, 1, 4, 4)
    torch.save([[embeds, {"pooled_output": pooled, "reference_latents": [picture], "guidance": 3.5}]], tmp_path / "cond.pt")
    trace = import_dump(tmp_path / "cond.pt")
    assert torch.equal(trace["prompt_embeds"], embeds) and torch.equal(trace["pooled_prompt_embeds"], pooled)
    assert torch.equal(trace["image_latents"], picture) and trace.settings["guidance"] == 3.5
    torch.save(embeds, tmp_path / "bare.pt")
    bare = import_dump(tmp_path / "bare.pt", "comfyui")
    assert "reference_latents" in bare.producer["notes"][0]


@pytest.mark.parametrize("workflow", [True, False])
def test_a_graph_in_a_picture_gives_the_settings(tmp_path, workflow):
    """Written here as ComfyUI's SaveImage documents it; programs that call its API leave the workflow out."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    if workflow:
        info.add_text("workflow", json.dumps({"nodes": [], "links": []}))
    Image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "out.png", pnginfo=info)
    trace = import_dump(tmp_path / "out.png")
    assert trace["image"].shape == (1, 48, 64, 3)
    wanted = {"seed": 5, "num_inference_steps": 20, "sampler": "euler", "shift": 3.1, "width": 64, "height": 48, "checkpoint": "qwen.safetensors",
              "prompt": "a red circle", "negative_prompt": "blurry", "guidance_scale": [8.0, 3.5]}  # fmt: skip
    assert wanted.items() <= trace.settings.items()


def test_parameters_of_a1111_give_the_settings(tmp_path):
    """Written here as the program writes its `parameters`."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a red circle\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, "
                                "CFG scale: 7, Seed: 123, Size: 64x48, Model hash: abcdef, Model: sd15, Clip skip: 2, Version: v1.10")
    Image.new("RGB", (64, 48)).save(tmp_path / "out.png", pnginfo=info)
    assert import_dump(tmp_path / "out.png").settings == {
        "prompt": "a red circle", "negative_prompt": "blurry", "num_inference_steps": 20, "sampler": "DPM++ 2M", "sigma_schedule": "Karras",
        "guidance_scale": 7, "seed": 123, "width": 64, "height": 48, "checkpoint": "sd15", "clip_skip": 2}  # fmt: skip


def test_lossy_pictures_say_so(tmp_path):
    Image.new("RGB", (64, 48), (200, 10, 10)).save(tmp_path / "out.jpg")
    assert "JPEG loses detail" in import_dump(tmp_path / "out.jpg").producer["notes"][0]
    Image.new("RGB", (64, 48), (200, 10, 10)).save(tmp_path / "out.webp", lossless=True)
    assert not import_dump(tmp_path / "out.webp").producer["notes"]


def test_films_have_all_their_frames_and_their_colour_range(tmp_path):
    av = pytest.importorskip("av")
    frames = [np.full((48, 64, 3), 40 * i, dtype=np.uint8) for i in range(5)]
    with av.open(str(tmp_path / "out.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())
    trace = import_dump(tmp_path / "out.mp4")
    assert trace["image"].shape == (1, 5, 48, 64, 3)
    assert trace["image"][0, 4].mean() == pytest.approx(160 / 255, abs=0.03)
    assert "5 frames" in trace.producer["notes"][0] and "colour range" in trace.producer["notes"][0]
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(tmp_path / "out.gif", save_all=True, append_images=pictures[1:])
    assert import_dump(tmp_path / "out.gif")["image"].shape == (1, 5, 48, 64, 3)


def test_a_folder_of_plain_tensors_is_read_by_its_names(tmp_path):
    np.save(tmp_path / "step_003_noise_pred.npy", np.ones((1, 4, 2, 2), dtype=np.float32))
    torch.save({"prompt_embeds": torch.ones(1, 3, 4), "pooled": torch.ones(1, 4)}, tmp_path / "encoder.pt")
    (tmp_path / "settings.json").write_text('{"seed": 3, "steps_taken": [1, 2]}')
    np.savez(tmp_path / "latents_1.npz", np.zeros((1, 4)))
    trace = import_dump(tmp_path)
    assert trace.get("noise_pred", 3) is not None and trace.settings == {"seed": 3}
    assert {str(p) for p in trace} >= {"noise_pred, step 3"}


@pytest.mark.parametrize(("name", "place"), [
    ("step_003_noise_pred", Place("noise_pred", 3)), ("latents_7", Place("latents", 7)), ("t12.latent", Place("latents", 12)),
    ("denoising_step=4/model_output", Place("noise_pred", 4)), ("12_latents", Place("latents", 12)), ("noise", Place("initial_noise")),
    ("prompt_embeds_2", Place("prompt_embeds_2")), ("transformer.blocks.3.attn", Place("modules", module="transformer.blocks.3.attn")),
    ("something_else", Place("something_else")), ("text_embeds", Place("prompt_embeds"))])  # fmt: skip
def test_foreign_names_find_their_places(name, place):
    assert place_of(name) == place


def test_a_trace_is_not_read_as_a_folder_of_unknown_tensors(tmp_path):
    import_dump(DUMPS / "sglang").save(tmp_path)
    with pytest.raises(Trouble, match="is a trace already"):
        import_dump(tmp_path)


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(Trouble, match="does not exist"):
        import_dump(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Trouble, match="no format that whydiff knows"):
        import_dump(tmp_path / "notes.txt")
    with pytest.raises(Trouble, match="Did you mean 'sglang'"):
        import_dump(DUMPS / "sglang", "sglan")
    damaged = tmp_path / "step=0___rank=0___dump_index=1___name=latents.pt"
    damaged.write_bytes((DUMPS / "sglang" / "step=0___rank=0___dump_index=8___name=latents___recompute_status=disabled___layer_id=0.pt")
                        .read_bytes()[:700])  # fmt: skip
    with pytest.raises(Trouble, match="latents.pt"):
        import_dump(tmp_path)
