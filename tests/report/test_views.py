"""A view draws on the axes it is given and returns them; it shows nothing and opens no figure of its own."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from whydiff.audits.frames import FrameDifference
from whydiff.audits.guidance_and_step import Update
from whydiff.audits.weights import Pairing
from whydiff.engine.modules import ModuleWalk
from whydiff.evidence.readers.step_log import StepTimes
from whydiff.formulas.frame_memory import Window
from whydiff.formulas.schedule_switch import ShiftInterval
from whydiff.measure.alignment import Alignment, ModulePair
from whydiff.measure.calibration import Calibration, Reading
from whydiff.measure.outliers import Outliers
from whydiff.measure.published import Published
from whydiff.report import views

picture = torch.rand(1, 6, 8, 3)
film = torch.rand(1, 3, 6, 8, 3)
pair = ModulePair("transformer/a", "transformer/b", 1.0, 0.1)
walk = ModuleWalk(0, Alignment([pair], [], []), {"transformer/a": 1e-7}, pair)
pairing = Pairing(["a"], [], [("b", "c")], [], [(("q", "k"), "qk")], ["x"], [], [])

checks = Calibration("sound", ("flipped",), ("cosine",), 1, {
    ("cosine", "sound", 0): Reading(0.9, True), ("cosine", "flipped", 0): Reading(0.1, False)})
drawn = [("independent", np.linspace(5, 7, 20), np.linspace(8, 9, 20), False), ("scaled", np.linspace(1, 2, 20), np.linspace(1, 2, 20), True)]
log = StepTimes(np.array([1.0, 9.0, 1.0]), np.zeros(3), np.arange(3), np.array([1.0, 3.4, 2.7]), "a log")
windows = {"all": Window(), "ring": Window(4, 2)}

# name: (rows and columns of axes, arguments)
VIEWS = {
    "pictures": ((1, 3), [{"reference": picture, "candidate": picture}]),
    "pictures of a film": ((1, 3), [{"reference": film, "candidate": film}, 20.0]),
    "pictures of two sizes": ((1, 3), [{"reference": picture, "candidate": picture.transpose(1, 2)}]),
    "pictures, none on one side": ((1, 3), [{"reference": picture, "candidate": None}]),
    "sizes": ((1, 1), [{"reference": (48, 64), "candidate": (64, 48)}]),
    "sizes, unknown": ((1, 1), [{"reference": (None, None), "candidate": (64, 48)}]),
    "noise_pair": ((1, 2), [np.random.default_rng(0).normal(size=50), np.random.default_rng(1).normal(size=50)]),
    "noise_pair, none": ((1, 2), [None, None]),
    "sigma_schedules": ((1, 1), [{"reference": np.linspace(1, 0, 5), "candidate": None}]),
    "sigma_schedules with experts": ((1, 1), [{"reference": np.linspace(1, 0, 5), "candidate": np.linspace(1, 0, 5) ** 2},
                                              {"reference": 3, "candidate": None}, 0.5]),
    "token_differences": ((1, 1), [{"prompt_embeds": [0.0, 0.5, 1e-7], "pooled_prompt_embeds": [0.1]}, {"input_ids": ["a", "b", "c"]}]),
    "token_differences, none": ((1, 1), [{}]),
    "latent_channels": ((2, 4), [{"reference": np.ones((2, 3, 4)), "candidate": np.zeros((2, 3, 4))}]),
    "latent_channels, none": ((2, 4), [{"reference": None, "candidate": None}]),
    "stage_strip": ((1, 1), [[("initial_noise", float("inf"), None, True), ("latents", 1e6, 0.0, False)]]),
    "growth": ((1, 1), [{"inherited": [(0, 0.1), (1, 0.2)], "added": [(0, 0.0), (1, 1e-8)], "floor": [(0, 1e-7), (1, 1e-7)]}]),
    "growth, none": ((1, 1), [{"inherited": [], "added": [], "floor": []}]),
    "dt_per_step": ((1, 1), [{"reference": [Update(0, -0.1, 1e-7, -0.1), Update(1, -0.2, 1e-7, None)], "candidate": []}]),
    "error_profiles": ((1, 3), [[{"axis": "token", "size": 96, "shares": [0.5, 0.5]}, {"axis": "head", "size": 4, "shares": [0, 1, 0, 0]}],
                                "vae / decoded"]),
    "error_profiles, none": ((1, 2), [[], ""]),
    "ranked_causes": ((1, 1), [(("seed", 1.0, 0.9), ("prompt", 1.0, -0.2), ("rgb-bgr", 1.0, None))]),
    "ranked_causes, none": ((1, 1), [()]),
    "weights": ((1, 1), [{"transformer": pairing, "vae": pairing}]),
    "modules": ((1, 1), [walk]),
    "modules, none": ((1, 1), [None]),
    "verdicts_of_checks": ((1, 1), [{"the note's": checks}]),
    "ratio_region": ((1, 1), [np.array([0.8, 1.0, 1.25]), np.array([0.0, 0.5]), np.array([[0.0, 0.2], [0.5, 0.9], [0.97, 1.0]]), (1.0, 1.25)]),
    "families": ((1, 2), [drawn, Published.read("5.94", "1.09", "8.26e4", "8.62", [1, 16, 1, 147, 110])]),
    "flow_expectations": ((1, 2), []),
    "step_times": ((1, 1), [{"reference": log}, {"reference": Outliers((1,), 1.0, 0.1, 5.0)}, {"reference": 1}]),
    "step_times, none": ((1, 1), [{}, {}]),
    "shift_intervals": ((1, 1), [[ShiftInterval(2.9, 3.5, "unipc", 27, 0.875, 9)], (3.0, 12.0), 12.0]),
    "shift_intervals, none": ((1, 1), [[]]),
    "fingerprints": ((1, 1), [{"seed": [FrameDifference(0, 0.5, 1e-5, None)], "same": [FrameDifference(0, 0.0, 1e-5, None)]}]),
    "seen_frames": ((1, 2), [windows, 6]),
    "visible_counts": ((1, 1), [windows, 6]),
    "by_frame": ((1, 1), [{"drift": [0.0, 0.1, 0.2]}, "difference", "By frame"]),
    "kept_detail": ((1, 1), [{"official": {0.1: 0.2, 1.0: 0.6}, "port": {0.1: 0.02, 1.0: 0.2}}]),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_draws_on_the_axes_it_is_given_and_returns_them(name):
    (rows, columns), arguments = VIEWS[name]
    figure, axes = plt.subplots(rows, columns)
    view = getattr(views, name.split(",")[0].split(" ")[0])
    try:
        assert view(axes, *arguments) is axes
        assert plt.get_fignums() == [figure.number]
        figure.canvas.draw()
        given = np.ravel(axes).tolist()
        assert any(ax.get_title(loc) for ax in given for loc in ("left", "center"))
    finally:
        plt.close("all")


def test_every_view_is_tested():
    assert {name.split(",")[0].split(" ")[0] for name in VIEWS} == set(views.__all__)


def test_sigmas_and_steps_carry_their_units():
    figure, ax = plt.subplots()
    views.sigma_schedules(ax, {"reference": np.linspace(1, 0, 5), "candidate": None})
    assert ax.get_ylabel() == "sigma (1 = noise, 0 = image)" and "step" in ax.get_xlabel()
    plt.close(figure)


def test_an_amplified_difference_says_so():
    figure, axes = plt.subplots(1, 3)
    views.pictures(axes, {"reference": picture, "candidate": picture}, amplify=20)
    assert axes[2].get_title() == "difference × 20"
    plt.close(figure)
