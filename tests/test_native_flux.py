"""The native port of FLUX in data/cases: healthy it is FluxPipeline, and each defect is in its place."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from whydiff.taps import listening

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"
MODEL = CASES.parent / "models" / "tiny-flux"
CALL = {"prompt": "two blue squares on black", "height": 32, "width": 48, "num_inference_steps": 3,
        "max_sequence_length": 16, "seed": 0}

MODEL_INPUTS = ("timestep", "guidance", "pooled_projections", "encoder_hidden_states", "img_ids", "txt_ids")

# What follows from each tap within the first step, directly.
FOLLOWS = {
    "input_ids": ["pooled_prompt_embeds"],
    "pooled_prompt_embeds": ["model_input/pooled_projections"],
    "input_ids_2": ["prompt_embeds"],
    "prompt_embeds": ["model_input/encoder_hidden_states", "model_input/txt_ids"],
    "initial_noise": ["initial_latents"],
    "initial_latents": ["latent_model_input", "latents"],
    "sigmas": ["timesteps", "latents"],
    "timesteps": ["model_input/timestep"],
    "noise_pred_text": ["noise_pred"],
    "noise_pred": ["latents"],
    "latents": ["vae_latents"],
    "vae_latents": ["decoded"],
    "latent_model_input": ["noise_pred_text"],
} | {f"model_input/{name}": ["noise_pred_text"] for name in MODEL_INPUTS}

# Build arguments, what the call leaves out, and the taps where the defect enters.
DEFECTS = [
    ({"width_first": True}, (), {"initial_noise", "model_input/img_ids"}),
    ({"generator_device": "cuda"}, (), {"initial_noise"}),
    ({"noise_dtype": "bfloat16"}, (), {"initial_noise"}),
    ({"default_seed": 42}, ("seed",), {"initial_noise"}),
    ({"default_max_sequence_length": 12}, ("max_sequence_length",), {"input_ids_2"}),
    ({"mask_text_padding": True}, (), {"prompt_embeds"}),
    ({"default_num_inference_steps": 5}, ("num_inference_steps",), {"sigmas"}),
    ({"sigma_min": 0.001}, (), {"sigmas"}),
    ({"mu_token_factor": 4}, (), {"sigmas"}),
    ({"flow_shift": 3.0}, (), {"sigmas"}),
    ({"timestep_scale": 0.001}, (), {"model_input/timestep"}),
    ({"default_guidance_scale": 2.5}, (), {"model_input/guidance"}),
    ({"guidance_embed_scale": 0.001}, (), {"model_input/guidance"}),
    ({"apply_rope": False}, (), {"noise_pred_text"}),
    ({"negate_velocity": True}, (), {"noise_pred_text"}),
    ({"apply_vae_scaling_factor": False}, (), {"vae_latents"}),
    ({"apply_vae_shift_factor": False}, (), {"vae_latents"}),
]
CHANGE_SHAPES = {"width_first", "default_max_sequence_length", "default_num_inference_steps"}


class Taps:
    """Keeps what is tapped under (name, step), and gives back what `replacements` has for it."""

    def __init__(self, replacements=None):
        self.seen, self.replacements = {}, replacements or {}

    def observe_nested(self, name, tensor, step=None, branch=None):
        assert (name, step) not in self.seen, f"{name} was tapped twice at step {step}"
        self.seen[name, step] = tensor.clone()
        other = self.replacements.get((name, step))
        return tensor if other is None else other.clone()


def by_name(defects):
    """One test for each row of DEFECTS, named after its build argument."""
    names = [next(iter(build)) for build, _, _ in defects]
    return pytest.mark.parametrize(("build", "left_out", "enters"), defects, ids=names)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sides():
    sys.path.insert(0, str(CASES))
    import sides
    yield sides
    sys.path.remove(str(CASES))


@pytest.fixture(scope="module")
def diffusers_pipeline(sides):
    return sides.reference()


@pytest.fixture(scope="module")
def healthy_port(sides):
    return sides.port()


@pytest.fixture(scope="module")
def healthy(healthy_port):
    return run(healthy_port, CALL)[0]


def run(port, call, replacements=None):
    """Everything tapped, and the images, (B, H, W, 3) in [0, 1]."""
    torch.manual_seed(0)
    with listening(Taps(replacements)) as taps:
        images = port(**call).images
    return taps.seen, images


def ask_diffusers(pipeline, seed, **call):
    return pipeline(**call, generator=torch.Generator().manual_seed(seed), output_type="np").images


def descendants(names):
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += FOLLOWS.get(name, [])
    return found


def relative_l2(reference, candidate):
    reference, candidate = np.float64(reference), np.float64(candidate)
    return np.linalg.norm(reference - candidate) / np.linalg.norm(reference)


def same(a, b):
    return a.shape == b.shape and torch.equal(a, b)


# --- healthy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    CALL,
    CALL | {"prompt": "a red circle", "height": 64, "width": 32, "num_inference_steps": 6, "seed": 7},
    CALL | {"prompt": ["a yellow triangle", "", "two green circles on white, more than fits into 16 tokens"]},
    CALL | {"guidance_scale": 1.0, "num_inference_steps": 1, "max_sequence_length": 40},
    CALL | {"height": 50, "width": 70},  # rounded down to what packing allows
], ids=["landscape", "portrait", "batch", "one step", "odd size"])
def test_the_healthy_port_is_diffusers_to_rounding(call, diffusers_pipeline, healthy_port):
    expected = ask_diffusers(diffusers_pipeline, **call)
    images = run(healthy_port, call)[1]
    assert images.dtype == np.float32 and images.shape == expected.shape
    # Both add float32 numbers, in another order: 3e-7 measured over 12 calls.
    assert relative_l2(expected, images) < 1e-5


def test_defaults_are_those_of_diffusers(diffusers_pipeline, healthy_port):
    call = {"prompt": "a red circle", "height": 16, "width": 16}
    torch.manual_seed(0)
    expected = diffusers_pipeline(**call, output_type="np").images
    assert relative_l2(expected, run(healthy_port, call)[1]) < 1e-5


def test_the_network_receives_what_it_receives_in_diffusers(diffusers_pipeline, healthy):
    received = []
    hook = diffusers_pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: received.append(kwargs), with_kwargs=True)
    ask_diffusers(diffusers_pipeline, **CALL)
    hook.remove()
    for step, kwargs in enumerate(received):
        for name in MODEL_INPUTS:
            tapped = healthy[f"model_input/{name}", step]
            assert tapped.shape == kwargs[name].shape
            torch.testing.assert_close(tapped, kwargs[name])
        torch.testing.assert_close(healthy["latent_model_input", step], kwargs["hidden_states"])


def test_noise_and_schedule_are_equal_bit_for_bit(diffusers_pipeline, healthy_port, healthy):
    generator = torch.Generator().manual_seed(CALL["seed"])
    assert same(healthy["initial_noise", None], torch.randn((1, 4, 8, 12), generator=generator))
    for steps in (1, 3, 28):
        call = CALL | {"num_inference_steps": steps}
        ask_diffusers(diffusers_pipeline, **call)
        seen = run(healthy_port, call)[0]
        assert same(seen["sigmas", None], diffusers_pipeline.scheduler.sigmas)
        assert same(seen["timesteps", None], diffusers_pipeline.scheduler.timesteps)


PROMPTS = ["", "a red circle", "A  Red\nCIRCLE", "don't", "a" * 99, "ünïcode ☃", "</s> a <pad>"]


@pytest.mark.parametrize(("name", "length"), [("tokenizer", 16), ("tokenizer_2", 4), ("tokenizer_2", 32)])
def test_prompts_become_the_ids_of_transformers(name, length, diffusers_pipeline, healthy_port):
    expected = getattr(diffusers_pipeline, name)(
        PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    assert same(getattr(healthy_port, name)(PROMPTS, length), expected)


def test_images_are_encoded_as_in_diffusers(diffusers_pipeline, healthy_port):
    image = torch.rand(2, 3, 48, 64) * 2 - 1
    with torch.no_grad():
        expected = diffusers_pipeline.vae.encode(image).latent_dist.mean
        torch.testing.assert_close(healthy_port.vae.encode(image), expected)


def test_bfloat16_runs_and_stays_near(sides, healthy):
    seen, images = run(sides.port(dtype="bfloat16"), CALL)
    assert seen["decoded", None].dtype == torch.bfloat16 and images.dtype == np.float32
    assert 1e-4 < relative_l2(healthy["decoded", None], seen["decoded", None].float()) < 0.5


# --- defects --------------------------------------------------------------------------------------


@by_name(DEFECTS)
def test_a_defect_changes_its_tap_and_what_follows(build, left_out, enters, sides, healthy_port):
    call = {key: value for key, value in CALL.items() if key not in left_out}
    before, after = run(healthy_port, call)[0], run(sides.port(**build), call)[0]
    changed = {name for name, step in before
               if step in (None, 0) and not same(before[name, step], after[name, step])}
    assert enters <= changed <= descendants(enters)
    assert "decoded" in changed


@by_name([row for row in DEFECTS if not CHANGE_SHAPES & set(row[0])])
def test_a_tap_repairs_the_defect(build, left_out, enters, sides, healthy_port):
    call = {key: value for key, value in CALL.items() if key not in left_out}
    before, expected = run(healthy_port, call)
    port = sides.port(**build)
    wrong = run(port, call)[1]
    repaired = run(port, call, {place: before[place] for place in before if place[0] in enters})[1]
    assert not np.array_equal(wrong, expected)
    assert np.array_equal(repaired, expected)


def test_every_tap_is_used(healthy_port, healthy):
    """Another tensor under any one name moves what follows from it, and the picture."""
    other = run(healthy_port, CALL | {"prompt": "a red circle", "seed": 1, "guidance_scale": 1.0})[0]
    for name in {name for name, _ in healthy} - {"decoded"}:
        replacements = {place: other[place] for place in other if place[0] == name}
        if all(same(tensor, healthy[place]) for place, tensor in replacements.items()):
            replacements = {place: tensor.roll(1, 0) + 1 for place, tensor in replacements.items()}
        seen = run(healthy_port, CALL, replacements)[0]
        for follower in FOLLOWS[name]:
            if follower != "model_input/txt_ids":  # only its length follows from the embeddings
                places = [place for place in healthy if place[0] == follower]
                assert any(not same(seen[place], healthy[place]) for place in places), f"{name} -> {follower}"
        assert not same(seen["decoded", None], healthy["decoded", None]), name


def test_an_unknown_build_argument_is_an_error(sides):
    with pytest.raises(TypeError, match="aply_rope"):
        sides.port(aply_rope=False)


# --- noise, weights, imports ----------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "published"), [
    (42, [0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530]),
    (0, [-0.92466259, -0.42534415, -2.6438457, 0.14518388]),
])
def test_the_emulated_cuda_draw_begins_as_published(seed, published, sides):
    from native_flux.cuda_noise import cuda_randn
    drawn = cuda_randn((1, 4, 8, 12), seed)
    assert drawn.dtype == torch.float32 and drawn.shape == (1, 4, 8, 12)
    torch.testing.assert_close(drawn.flatten()[: len(published)], torch.tensor(published), rtol=0, atol=6e-5)


def test_a_cuda_draw_is_the_same_in_any_shape_and_normal(sides):
    from native_flux.cuda_noise import BLOCK, cuda_randn
    draw = cuda_randn((4, 50, 50), seed=3)
    assert same(draw.flatten()[:768], cuda_randn((768,), seed=3))  # while there are enough threads
    assert abs(draw.mean()) < 0.05 and abs(draw.std() - 1) < 0.05
    few = cuda_randn((9 * BLOCK,), seed=3, max_threads=BLOCK)  # nine turns each, so three calls of four
    assert same(few[:BLOCK], draw.flatten()[:BLOCK]) and len(few.unique()) == len(few)
    assert same(few[4 * BLOCK : 5 * BLOCK], cuda_randn((BLOCK,), seed=3, offset=4))


@pytest.mark.parametrize("component", ["transformer", "text_encoder", "text_encoder_2", "vae"])
def test_every_tensor_of_the_checkpoint_finds_its_place(component, sides):
    from native_flux.convert import convert, read_config
    from native_flux.pipeline import COMPONENTS
    tensors = load_file(next((MODEL / component).glob("*.safetensors")))
    config = read_config(MODEL / component / "config.json")
    converted = convert(component, tensors, config)
    assert sum(t.numel() for t in converted.values()) == sum(t.numel() for t in tensors.values())
    assert set(converted) == set(COMPONENTS[component](config).state_dict())
    with pytest.raises(ValueError, match="no place in this port: adapter.lora_A.weight"):
        convert(component, tensors | {"adapter.lora_A.weight": torch.zeros(1)}, config)


def test_the_port_imports_neither_diffusers_nor_transformers():
    code = (f"import sys; sys.path.insert(0, {str(CASES)!r}); import sides\n"
            "sides.port()(prompt='a red circle', height=16, width=16, num_inference_steps=1, seed=0)\n"
            "print([name for name in sys.modules if name.split('.')[0] in ('diffusers', 'transformers')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
