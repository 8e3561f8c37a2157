"""How the latents are scaled for the decoder, from recordings whose latents differ already."""

import pytest
import torch

from whydiff.engine.study import study
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place


def recorded(folder, shift, divisor=0.5, offset=0.25, curved=False):
    trace = Trace(producer={"components": {"vae": {"class": "Vae", "config": {"scaling_factor": 0.5, "shift_factor": 0.25}}}})
    grid = torch.linspace(1, 0.25, 4)
    sigmas = torch.cat([shift * grid / (1 + (shift - 1) * grid), torch.zeros(1)])
    latents = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    trace.add(Event(Place("initial_noise"), latents))
    trace.add(Event(Place("sigmas"), sigmas))
    for step in range(4):
        velocity = torch.tanh(latents + sigmas[step])
        trace.add(Event(Place("noise_pred", step), velocity))
        latents = latents + velocity * (sigmas[step + 1] - sigmas[step])
        trace.add(Event(Place("latents", step), latents))
    received = latents / divisor + offset
    trace.add(Event(Place("vae_latents"), received + 0.1 * received**2 if curved else received))
    return str(trace.save(folder))


def causes(tmp_path, **candidate):
    sides = {"reference": {"trace": recorded(tmp_path / "a", 3.0)}, "candidate": {"trace": recorded(tmp_path / "b", **candidate)}}
    return [cause for cause in study(make_case(sides)).verdict.causes if cause.probe == "vae_latents"]


@pytest.mark.parametrize("departure, found", [({"offset": 0.0}, ["vae-shift-missing"]), ({"divisor": 1.0}, ["vae-scaling-factor"]),
                                              ({"divisor": 1.0, "offset": 0.0}, ["vae-scaling-factor", "vae-shift-missing"])])  # fmt: skip
def test_the_vaes_numbers_are_told_although_the_schedule_differs_too(departure, found, tmp_path):
    named = causes(tmp_path, shift=5.0, **departure)
    assert [cause.id for cause in named] == found and {cause.departs for cause in named} == {"candidate"}
    assert all(cause.explained > 0.9999 for cause in named)


@pytest.mark.parametrize("healthy", [{}, {"curved": True}])
def test_nothing_is_named_where_both_scale_alike_or_it_is_no_scaling(healthy, tmp_path):
    assert causes(tmp_path, shift=5.0, **healthy) == []
