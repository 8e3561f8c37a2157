"""Where no experiment decides, no cause is named; and what is named carries the right share."""

import pathlib

import pytest
import torch

import whydiff
from whydiff import tap
from whydiff.evidence.case import make_case

CASES = pathlib.Path(__file__).parents[2] / "data" / "cases"
CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 4, "max_sequence_length": 16, "seed": 0}


def diagnose(sides, damage, **changes):
    candidate = sides.reference()
    damage(candidate)
    return whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL | changes)


def with_timesteps(change):
    """A damage: timesteps made by `change(sigmas without the final 0)`, the sigmas themselves untouched."""

    def damage(pipeline):
        original = pipeline.scheduler.set_timesteps

        def set_timesteps(*args, **kwargs):
            original(*args, **kwargs)
            pipeline.scheduler.timesteps = change(pipeline.scheduler.sigmas[:-1])

        set_timesteps.__wrapped__ = original
        pipeline.scheduler.set_timesteps = set_timesteps

    return damage


@pytest.mark.parametrize("change, cause", [
    (lambda sigmas: torch.cat([sigmas[1:], sigmas.new_zeros(1)]) * 1000, None),
    (lambda sigmas: sigmas * 999, None),
    (lambda sigmas: sigmas * 1000 - 1, "steps-offset"),
    (lambda sigmas: torch.linspace(1, 1 / len(sigmas), len(sigmas)) * 1000, "timesteps-not-shifted"),
], ids=["one step off", "times 999", "minus 1", "not shifted"])  # fmt: skip
def test_wrong_timesteps_beside_right_sigmas_are_no_fault_of_the_sigmas(sides, change, cause):
    verdict = diagnose(sides, with_timesteps(change))
    assert [(entry.id, entry.probe) for entry in verdict.causes] == ([(cause, "timesteps")] if cause else [])
    assert [entry["probe"] for entry in verdict.unexplained] == ([] if cause else ["timesteps"])


def test_timesteps_cut_to_integers_are_named(sides):
    """1000 sigma truncated: only where the sigmas agree can the timesteps be to blame."""
    verdict = diagnose(sides, with_timesteps(lambda sigmas: (sigmas * 1000).trunc()))
    assert [cause.id for cause in verdict.causes] == ["timestep-truncated-to-int"]


def conditioned(dtype):
    """A sampler whose network receives its timesteps in `dtype`."""

    def side(prompt="", seed=0):
        latents = tap("initial_noise", torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(seed)))
        for i, t in enumerate((937.3, 613.7, 211.1)):
            timestep = tap("model_input/timestep", torch.tensor([t]).to(dtype), step=i)
            noise_pred = tap("noise_pred_text", torch.tanh(latents) * torch.sin(timestep.float()), step=i)
            latents = tap("latents", latents - noise_pred / 3, step=i)
        return (latents[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2

    return side


def test_a_repair_that_the_candidates_dtype_undoes_claims_no_share_and_blames_nothing_after_it():
    verdict = whydiff.diagnose(reference=conditioned(torch.float32), candidate=conditioned(torch.bfloat16), call={"prompt": "a", "seed": 0})
    (cause,) = verdict.causes
    assert (cause.id, cause.image_effect) == ("timestep-rounded-to-bf16", None)
    assert verdict.unexplained == []
    assert "may be inherited" in verdict.notes[0]


def test_swapped_colour_channels_are_the_whole_difference(sides):
    candidate, reference = sides.reference(), sides.reference()

    def bgr(prompt, height, width, num_inference_steps, max_sequence_length, generator):
        arguments = {"prompt": prompt, "height": height, "width": width, "num_inference_steps": num_inference_steps}
        out = candidate(**arguments, max_sequence_length=max_sequence_length, generator=generator, output_type="np")
        return out.images[..., ::-1].copy()

    (cause,) = whydiff.diagnose(reference=reference, candidate=bgr, call=CALL).causes
    assert (cause.id, cause.image_effect) == ("rgb-bgr", pytest.approx(1.0))


def test_another_factor_in_the_vaes_own_config_is_said_to_be_the_config(sides):
    verdict = diagnose(sides, lambda p: p.vae.register_to_config(scaling_factor=0.743))
    (cause,) = verdict.causes
    assert cause.id == "vae-scaling-factor"
    assert "vae.config" in cause.statement


def test_a_recorded_candidate_is_held_against_a_live_reference(sides, tmp_path):
    """Values then go from the trace into the reference; nothing inherited is blamed."""
    for build, expected in (({}, []), ({"sigma_min": 0.001}, ["sigma-grid-endpoints"])):
        trace = tmp_path / f"trace{len(build)}"
        recorded = make_case({role: {"live": {"entry": "sides.py:port", "build": build, "call": CALL}} for role in ("reference", "candidate")})
        recorded.path = str(CASES / "x.yaml")
        whydiff.study(recorded).reference.save(trace)
        case = make_case({"reference": {"live": {"entry": "sides.py:reference", "call": CALL}}, "candidate": {"trace": str(trace)}})
        case.path = str(CASES / "x.yaml")
        verdict = whydiff.study(case).verdict
        assert [cause.id for cause in verdict.causes] == expected and verdict.unexplained == []
        assert verdict.verdict == ("different" if expected else "within_noise")
        assert any("only the reference is live" in note for note in verdict.notes)


def test_other_kernels_on_the_same_weights_are_within_noise(sides):
    for prompt, steps in (("two blue squares on black", 12), ("a red circle", 4)):
        candidate = sides.reference(channels_last=True)
        verdict = whydiff.diagnose(reference=sides.reference(), candidate=candidate,
                                   call=CALL | {"prompt": prompt, "num_inference_steps": steps})  # fmt: skip
        assert verdict.verdict == "within_noise"


def test_a_reference_that_leaks_does_not_hide_it_in_its_own_floor():
    class Leaky:
        runs = 0

        def __call__(self, prompt="", seed=0):
            self.runs += 1
            image = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(seed))
            return image if self.runs == 1 else image * 0.8

    def clean(prompt="", seed=0):
        return torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(seed))

    verdict = whydiff.diagnose(reference=Leaky(), candidate=clean, call={"prompt": "a", "seed": 0})
    assert verdict.verdict == "different"
    assert verdict.unexplained[0]["stage"] == "state_leakage"
