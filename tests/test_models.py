"""The two small models in data/models do what their cards promise."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, UniPCMultistepScheduler, WanPipeline

DATA = Path(__file__).parents[1] / "data"
sys.path.append(str(DATA / "training"))

import evaluate  # noqa: E402
from build_tokenizers import build_clip_tokenizer, build_t5_tokenizer  # noqa: E402
from checker import check  # noqa: E402
from shapes import SIZES, all_captions, draw_scene, parse_caption  # noqa: E402

TINY_FLUX, TINY_WAN = DATA / "models" / "tiny-flux", DATA / "models" / "tiny-wan"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads wait for each other at every layer: 100 times slower when another process wants a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def flux():
    return evaluate.load_pipeline(TINY_FLUX)


@pytest.fixture(scope="module")
def wan():
    pipeline = WanPipeline.from_pretrained(TINY_WAN, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def component_dtypes(pipeline):
    models = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return {parameter.dtype for model in models for parameter in model.parameters()}


def final_latents(pipeline, prompt="two blue squares on black", **call):
    call = {
        "num_inference_steps": 4,
        "guidance_scale": 3.5,
        "max_sequence_length": 16,
        "height": 48,
        "width": 64,
    } | call
    return pipeline(
        prompt=prompt, generator=torch.Generator("cpu").manual_seed(3), output_type="latent", **call
    ).images


def relative_difference(*, reference, candidate):
    return float((candidate - reference).norm() / reference.norm())


def first_call_of_the_low_noise_expert(pipeline, flow_shift):
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=flow_shift)
    calls = []
    hooks = [
        expert.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        for name, expert in (("high", pipeline.transformer), ("low", pipeline.transformer_2))
    ]
    pipeline(
        prompt="a red circle",
        height=16,
        width=16,
        num_frames=1,
        num_inference_steps=27,
        guidance_scale=1.0,
        max_sequence_length=32,
        generator=torch.Generator("cpu").manual_seed(0),
        output_type="latent",
    )
    for hook in hooks:
        hook.remove()
    assert len(calls) == 27
    return calls.index("low")


def test_tiny_flux_loads_as_an_unmodified_pipeline_in_float32_without_a_warning_about_mixed_dtypes():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline = FluxPipeline.from_pretrained(TINY_FLUX, torch_dtype=torch.float32)
    assert type(pipeline) is FluxPipeline
    assert component_dtypes(pipeline) == {torch.float32}
    about_dtypes = [str(warning.message) for warning in caught if "dtype" in str(warning.message)]
    assert [message for message in about_dtypes if "`torch_dtype` is deprecated" not in message] == []


@pytest.mark.parametrize("folder", [TINY_FLUX, TINY_WAN], ids=lambda folder: folder.name)
def test_a_model_takes_at_most_four_million_bytes(folder):
    assert evaluate.folder_size(folder) <= 4_000_000


def test_tiny_flux_has_the_schedule_of_flux_dev_and_a_guidance_embedding(flux):
    schedule = flux.scheduler.config
    assert schedule.use_dynamic_shifting
    assert (schedule.base_shift, schedule.max_shift, schedule.shift) == (0.5, 1.15, 3.0)
    assert (schedule.base_image_seq_len, schedule.max_image_seq_len) == (256, 4096)
    assert flux.transformer.config.guidance_embeds


def test_the_vae_shift_and_scale_are_far_from_doing_nothing(flux):
    assert abs(flux.vae.config.shift_factor) > 0.1
    assert abs(flux.vae.config.scaling_factor - 1) > 0.1


def test_the_vae_restores_unseen_pictures_to_34_db(flux):
    assert evaluate.measure_round_trip(flux.vae, per_orientation=24) >= 34


def test_every_caption_names_a_scene_and_fits_into_the_prompt_length(flux):
    for caption in all_captions():
        assert parse_caption(caption).count in (1, 2)
        assert len(flux.tokenizer(caption).input_ids) <= 16
        assert flux.tokenizer_2.unk_token_id not in flux.tokenizer_2(caption).input_ids


def test_the_committed_tokenizers_are_the_ones_that_the_training_builds(flux):
    assert flux.tokenizer.get_vocab() == build_clip_tokenizer().get_vocab()
    assert flux.tokenizer_2.get_vocab() == build_t5_tokenizer().get_vocab()


def test_a_caption_outside_the_grammar_is_refused_with_examples():
    with pytest.raises(ValueError, match="not in the grammar.*two blue squares on black"):
        parse_caption("three purple crosses")


def test_the_checker_calls_true_pictures_right():
    assert evaluate.measure_checker(per_orientation=100) >= 0.99


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("a green circle", "colour"),
        ("a red square", "shape"),
        ("two red circles", "count"),
        ("a red circle on black", "background"),
    ],
)
def test_the_checker_calls_a_true_picture_of_another_caption_wrong(wrong, part):
    picture = draw_scene(parse_caption("a red circle"), *SIZES[0], np.random.default_rng(0))
    verdict = check(picture, wrong)
    assert not verdict[part]
    assert not verdict["all"]
    assert sum(not right for right in verdict.values()) == 2


def test_tiny_flux_draws_unseen_pairs_of_caption_and_seed_right(flux):
    verdicts = evaluate.check_drawings(flux, evaluate.held_out_pairs(24), steps=12, guidance_scale=3.5)
    assert len(verdicts) == 24
    assert np.mean([verdict["all"] for verdict in verdicts]) >= 0.85


def test_the_same_seed_draws_the_same_latents_bit_for_bit(flux):
    assert torch.equal(final_latents(flux), final_latents(flux))


def test_the_guidance_embedding_moves_the_latents(flux):
    reference = final_latents(flux)
    assert relative_difference(reference=reference, candidate=final_latents(flux, guidance_scale=1.0)) > 0.05


def test_another_prompt_moves_the_latents(flux):
    candidate = final_latents(flux, prompt="two blue squares")
    assert relative_difference(reference=final_latents(flux), candidate=candidate) > 0.3


def test_tiny_wan_loads_with_two_different_experts_and_its_boundary(wan):
    assert type(wan) is WanPipeline
    assert component_dtypes(wan) == {torch.float32}
    assert wan.config.boundary_ratio == 0.875
    assert (wan.scheduler.config.flow_shift, wan.scheduler.config.use_flow_sigmas) == (3.0, True)
    first, second = (expert.proj_out.weight for expert in (wan.transformer, wan.transformer_2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("flow_shift", "index"), [(12.0, 18), (3.0, 9)])
def test_tiny_wan_switches_experts_where_its_flow_shift_says(wan, flow_shift, index):
    assert first_call_of_the_low_noise_expert(wan, flow_shift) == index


@pytest.mark.parametrize(
    "card", [TINY_WAN / "README.md", DATA / "README.md"], ids=["model card", "data/README.md"]
)
def test_it_is_said_plainly_that_the_weights_of_tiny_wan_are_random(card):
    assert "random" in card.read_text()
