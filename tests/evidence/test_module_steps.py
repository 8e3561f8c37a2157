"""Outputs of modules bear the step they are made in, whatever a side shows of it, and when."""

import pytest
import torch

import whydiff


def side(early: bool):
    """An Euler loop over one linear layer, which shows its network's input or only what comes out."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 8))

    def run(seed):
        latents = whydiff.tap("initial_noise", torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(seed)))
        for i in range(3):
            if early:
                latents = whydiff.tap("latent_model_input", latents, step=i)
            with torch.no_grad():
                prediction = whydiff.tap("noise_pred", network(latents), step=i)
            latents = whydiff.tap("latents", latents - 0.1 * prediction, step=i)
        return latents

    run.components = {"transformer": network}
    return run


@pytest.mark.parametrize("early", [True, False])
def test_a_network_that_runs_before_its_step_is_shown_belongs_to_that_step(early):
    subject = side(early)
    with whydiff.record(subject, modules=["transformer/*"]) as trace:
        subject(0)
    places = [place for place in trace if place.probe == "modules"]
    assert [place.step for place in places] == [0, 1, 2]
    assert all(torch.equal(trace[place], trace.get("noise_pred", place.step)) for place in places)
