"""An edit changes one object, is readable as source, and never silently changes nothing."""

import inspect

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from whydiff.faults.rewriting import become, edit, requests

SHIFT = "sigmas = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)"


def levels(scheduler):
    scheduler.set_timesteps(4)
    return scheduler.sigmas


def test_an_edit_changes_one_object_and_no_other_of_its_class():
    edited, other = FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatchEulerDiscreteScheduler(shift=3.0)
    before = levels(other)
    edit(edited, "set_timesteps", (SHIFT, f"{SHIFT}; {SHIFT}"))
    assert not torch.equal(levels(edited), before)
    assert torch.equal(levels(other), before)
    assert isinstance(edited, FlowMatchEulerDiscreteScheduler)


def test_an_edited_method_can_be_edited_again_and_read():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    edit(scheduler, "set_timesteps", (SHIFT, "sigmas = 0.5 * sigmas"))
    edit(scheduler, "set_timesteps", ("sigmas = 0.5 * sigmas", "sigmas = 0.25 * sigmas"))
    assert "0.25 * sigmas" in inspect.getsource(scheduler.set_timesteps)
    assert levels(scheduler)[0] == pytest.approx(0.25)


def test_a_text_that_is_not_there_is_an_error_and_not_a_fault_without_effect():
    with pytest.raises(ValueError, match="set_timesteps has no 'sigmas = nothing'"):
        edit(FlowMatchEulerDiscreteScheduler(), "set_timesteps", ("sigmas = nothing", "sigmas = 1"))


def test_names_replace_what_the_method_finds_in_its_module():
    scheduler, other = FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatchEulerDiscreteScheduler(shift=3.0)
    tenth = type("np", (), {"linspace": staticmethod(lambda *_: np.full(4, 100.0)), "array": np.array, "float32": np.float32})
    edit(scheduler, "set_timesteps", (SHIFT, "pass"), np=tenth)
    assert levels(scheduler)[0] == pytest.approx(0.1)
    assert levels(other)[0] == pytest.approx(1.0)


def test_other_methods_belong_to_one_object():
    scheduler, other = FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler()
    become(scheduler, scale_noise=lambda self, sample, *_: sample)
    assert scheduler.scale_noise(1.0, 2, 3) == 1.0
    assert "scale_noise" not in vars(type(other)) or type(other).scale_noise is not type(scheduler).scale_noise


def test_a_wrapped_call_keeps_its_signature_and_sees_defaults():
    class Pipeline:
        def __call__(self, prompt, guidance_scale=5.0):
            return prompt, guidance_scale

    pipeline = Pipeline()
    requests(pipeline, lambda arguments: arguments.update(guidance_scale=arguments["guidance_scale"] + 1))
    assert pipeline("a") == ("a", 6.0)
    assert "guidance_scale" in inspect.signature(pipeline).parameters
