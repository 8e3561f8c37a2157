"""Handfuls of defects, switched on together in the native port: just those are named, whichever they are."""

import pathlib

import pytest

from whydiff import study
from whydiff.evidence.case import make_case

CASES = pathlib.Path(__file__).parents[2] / "data" / "cases"
CALL = {"prompt": "two green triangles on black", "height": 64, "width": 48, "num_inference_steps": 6, "max_sequence_length": 16, "seed": 3}

# Build argument and value, the cause it is, and the key that `call` must leave out for a default to show.
SWITCHES = {
    "width_first": (True, "height-width-swapped", None),
    "generator_device": ("cuda", "generator-device", None),
    "noise_dtype": ("bfloat16", "randn-dtype", None),
    "default_seed": (1024, "seed", "seed"),
    "default_max_sequence_length": (24, "max-sequence-length", "max_sequence_length"),
    "mask_text_padding": (True, "encoder-mask-passed-or-not", None),
    "default_num_inference_steps": (9, "num-inference-steps", "num_inference_steps"),
    "sigma_min": (0.001, "sigma-grid-endpoints", None),
    "mu_token_factor": (4, "dynamic-shift-seq-len", None),
    "flow_shift": (3.0, "shift-constant", None),
    "timestep_scale": (0.001, "timestep-scale-1000", None),
    "default_guidance_scale": (1.0, "guidance-scale", None),
    "guidance_embed_scale": (0.001, "guidance-times-1000", None),
    "apply_rope": (False, "rope-not-applied", None),
    "negate_velocity": (True, "velocity-sign", None),
    "apply_vae_scaling_factor": (False, "vae-scaling-factor", None),
    "apply_vae_shift_factor": (False, "vae-shift-missing", None),
}

HANDFULS = [
    ("generator_device", "mask_text_padding", "mu_token_factor", "timestep_scale", "apply_rope"),
    ("width_first", "sigma_min", "guidance_embed_scale"),
    ("default_seed", "flow_shift", "apply_vae_shift_factor"),
    ("noise_dtype", "mask_text_padding", "negate_velocity"),
    ("default_num_inference_steps", "generator_device", "default_guidance_scale"),
    ("default_max_sequence_length", "mu_token_factor", "apply_vae_scaling_factor"),
    ("default_seed", "mask_text_padding", "sigma_min", "timestep_scale", "guidance_embed_scale", "apply_rope"),
    ("width_first", "mask_text_padding", "flow_shift", "apply_rope", "apply_vae_shift_factor"),
    ("default_num_inference_steps", "default_seed", "timestep_scale"),
    ("generator_device", "default_guidance_scale", "negate_velocity", "apply_vae_scaling_factor"),
    ("mu_token_factor",),
    ("sigma_min", "guidance_embed_scale", "apply_rope", "apply_vae_scaling_factor"),
]


def diagnosed(build, call=CALL, reference="reference", reference_build=None, candidate="port"):
    case = make_case({
        "reference": {"live": {"entry": f"sides.py:{reference}", "build": reference_build or {}, "call": call}},
        "candidate": {"live": {"entry": f"sides.py:{candidate}", "build": build, "call": call}},
    })  # fmt: skip
    case.path = str(CASES / "handful.yaml")
    return study(case).verdict


@pytest.mark.parametrize("switches", HANDFULS, ids="+".join)
def test_a_handful_of_defects_is_named_and_nothing_else(switches):
    build = {name: SWITCHES[name][0] for name in switches}
    left_out = {SWITCHES[name][2] for name in switches}
    verdict = diagnosed(build, {key: value for key, value in CALL.items() if key not in left_out})
    assert {cause.id for cause in verdict.causes} == {SWITCHES[name][1] for name in switches}
    assert verdict.unexplained == []
    assert verdict.verdict == "different" and verdict.exit_status == 1
    assert all(cause.explained > 0.99 for cause in verdict.causes)


def test_a_differing_default_shows_only_where_the_call_leaves_it_out():
    assert [cause.id for cause in diagnosed({"default_guidance_scale": 1.0}).causes] == ["guidance-scale"]
    assert diagnosed({"default_guidance_scale": 1.0}, CALL | {"guidance_scale": 3.5}).verdict == "within_noise"


def test_a_wrong_reference_is_the_side_that_departs():
    """mu from four times too many tokens sat in the reference, SGLang (sgl-project/sglang#21041)."""
    (cause,) = diagnosed({}, reference="port", reference_build={"mu_token_factor": 4}, candidate="reference").causes
    assert cause.id == "dynamic-shift-seq-len"
    assert cause.departs == "reference"
    assert cause.equivalent == ["shift-constant"]
