"""Sides that do not fit into memory together are made in turn: one at a time, with the same verdict for all but what is inside."""

import sys
import textwrap
import weakref

import pytest
import torch

from whydiff.engine.api import study
from whydiff.evidence.case import make_case
from whydiff.evidence.sides import memory, runnable

SIDES = textwrap.dedent('''
    """A sampler with one small network; every one that was made is known."""
    import torch, weakref, whydiff

    MADE, MOST = weakref.WeakSet(), [0]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, hidden_states, timestep):
            return torch.tanh(self.layer(hidden_states)) * (0.5 + timestep)

    class Sampler:
        def __init__(self, shift=3.0, sign=1.0):
            torch.manual_seed(0)
            self.components = {"transformer": Network().eval()}
            self.shift, self.sign = shift, sign
            MADE.add(self)
            MOST[0] = max(MOST[0], len(MADE))

        def __call__(self, prompt="", num_inference_steps=4, seed=0):
            latents = whydiff.tap("initial_noise", torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(seed)))
            grid = torch.linspace(1, 1 / num_inference_steps, num_inference_steps)
            sigmas = whydiff.tap("sigmas", torch.cat([self.shift * grid / (1 + (self.shift - 1) * grid), torch.zeros(1)]))
            for i in range(num_inference_steps):
                noise_pred = self.sign * self.components["transformer"](latents, sigmas[i])
                latents = whydiff.tap("latents", latents + (sigmas[i + 1] - sigmas[i]) * whydiff.tap("noise_pred", noise_pred, step=i), step=i)
            return latents
''')


@pytest.fixture
def case(tmp_path):
    (tmp_path / "sides.py").write_text(SIDES)

    def made(**build):
        live = {"entry": "sides.py:Sampler", "call": {"seed": 0}}
        case = make_case({"reference": {"live": live}, "candidate": {"live": live | {"build": build}}})
        case.path = str(tmp_path / "case.yaml")
        return case

    return made


def made_by(folder):
    """The module of the sides, which counts them."""
    return next(m for name, m in sys.modules.items() if name.startswith(runnable.SIDE_MODULE) and str(folder) in str(m.__file__))


@pytest.mark.parametrize(("build", "causes"), [({"shift": 5.0}, ["shift-constant"]), ({"sign": -1.0}, ["velocity-sign"]), ({}, [])])
def test_one_at_a_time_says_what_both_in_memory_say(case, tmp_path, build, causes):
    alone = study(case(**build), apart=True)
    assert [cause.id for cause in alone.verdict.causes] == causes
    assert made_by(tmp_path).MOST[0] == 1
    assert any("one side at a time" in note for note in alone.verdict.notes)
    together = study(case(**build), apart=False)
    assert together.verdict.words() == alone.verdict.words() and made_by(tmp_path).MOST[0] > 1


@pytest.mark.thorough
def test_sides_that_do_not_fit_are_kept_apart_by_themselves(case, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    assert study(case(shift=5.0)).lab.apart
    monkeypatch.undo()
    assert not study(case(shift=5.0)).lab.apart


def test_a_side_that_was_given_up_is_let_go():
    subject = torch.nn.Linear(2, 2)
    gone = weakref.ref(subject)
    side = runnable.RunnableSide(subject, {}, role="reference", make=lambda: torch.nn.Linear(2, 2))
    del subject
    side.give_up()
    assert gone() is None and isinstance(side.subject, torch.nn.Linear)
