"""A toy pipeline in a folder: two sides that can be run in milliseconds, and cases that compare them."""

import os
import textwrap

import hypothesis
import pytest

# How many examples a property is tried on where its test does not say: HYPOTHESIS_PROFILE=many for a long look.
hypothesis.settings.register_profile("few", max_examples=25, deadline=None)
hypothesis.settings.register_profile("many", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))

SIDES = '''
"""A sampler of four lines; `noise_scale` is a defect."""
import torch, whydiff

class Toy:
    def __init__(self, noise_scale=1.0, broken=False):
        self.noise_scale, self.broken = noise_scale, broken

    def __call__(self, prompt="a circle", height=8, width=12, num_inference_steps=3, seed=0):
        print("a side that prints")
        noise = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed)) * self.noise_scale
        latents = whydiff.tap("initial_noise", noise)
        sigmas = whydiff.tap("sigmas", torch.linspace(1, 1 / num_inference_steps, num_inference_steps))
        for i in range(num_inference_steps):
            if self.broken:
                raise RuntimeError("no such kernel\\nand a second line")
            noise_pred = whydiff.tap("noise_pred", torch.tanh(latents) * sigmas[i], step=i)
            latents = whydiff.tap("latents", latents - noise_pred / num_inference_steps, step=i)
        return whydiff.tap("image", (latents[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2)

class Port(Toy):
    """The same numbers by other code."""

def reference(noise_scale=1.0, broken=False):
    return Toy(noise_scale, broken)

def port(noise_scale=1.0, broken=False):
    return Port(noise_scale, broken)
'''

CASE = """
title: toy
reference: {name: toy, live: {entry: "sides.py:reference", call: {prompt: a circle, seed: 0}}}
candidate: {name: port, live: {entry: "sides.py:port", build: {noise_scale: 1.0}, call: {prompt: a circle, seed: 0}}}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with sides.py and toy.yaml; the current folder while the test runs."""
    (tmp_path / "sides.py").write_text(textwrap.dedent(SIDES))
    (tmp_path / "toy.yaml").write_text(CASE)
    monkeypatch.chdir(tmp_path)
    return tmp_path
