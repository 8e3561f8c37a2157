"""Differences that nobody planted: the same models under two versions of their libraries (`make natural`; needs the package index)."""

import pathlib

import pytest
from environments import interpreter

from whydiff.engine.study import study
from whydiff.evidence.case import make_case

WAN = {"prompt": "a red circle", "height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 27, "guidance_scale": 4.0,
       "max_sequence_length": 16, "seed": 0}  # fmt: skip
FLUX = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 12, "max_sequence_length": 16, "seed": 0}


def found(entry, call, older, role="candidate"):
    sides = {name: {"name": name, "live": {"entry": f"sides.py:{entry}", "call": call}} for name in ("reference", "candidate")}
    sides[role]["live"]["python"] = str(interpreter(older))
    case = make_case(sides)
    case.path = str(pathlib.Path(__file__).parent / "case.yaml")
    return study(case)


@pytest.mark.parametrize("role, other", [("candidate", "reference"), ("reference", "candidate")])
def test_the_grid_of_unipc_changed_between_0_36_and_0_42(role, other):
    """diffusers 0.37.0 changed it (huggingface/diffusers#12109); Wan's own code has the one before, so the newer side departs."""
    seen = found("wan", WAN, "diffusers-0.36.0", role)
    last = {name: int(seen.lab.traces[name].get("timesteps")[-1]) for name in (role, other)}
    assert last == {role: 315, other: 321}
    (cause,) = seen.verdict.causes
    assert (cause.id, cause.departs, seen.verdict.unexplained) == ("sigma-grid-endpoints", other, [])
    assert cause.relation[f"grid_{role}"] == "unipc_0.36" and cause.relation[f"grid_{other}"] == "unipc"
    versions = {name: seen.lab.traces[name].producer["version"] for name in (role, other)}
    assert versions[role] == "0.36.0" != versions[other]


def test_an_older_flux_has_another_default_guidance_and_loses_the_weights_of_clip():
    """diffusers 0.30.3 guides with 7.0 where nothing is said, newer ones with 3.5. The checkpoint was saved by transformers 5, whose
    names of CLIP's weights begin one module further in: 4.46.3 loads none of them, and goes on with a warning."""
    verdict = found("flux", FLUX, "diffusers-0.30.3").verdict
    assert [(cause.id, cause.departs) for cause in verdict.causes] == [("missing-keys-nonstrict", "candidate"), ("guidance-scale", "unknown")]
    assert verdict.causes[0].module == "text_encoder" and verdict.unexplained == []
    assert (verdict.causes[1].relation["reference"], verdict.causes[1].relation["candidate"]) == (3.5, 7.0)
