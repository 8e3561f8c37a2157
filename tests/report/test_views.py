"""A view draws on the axes it is given and returns them; it shows nothing and opens no figure of its own."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from whydiff.audits import module_tree
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
from whydiff.report.stages import Stage
from whydiff.report.views.colours import ZERO

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

strip = [Stage("parameters", "parameters", "same"), Stage("rng_noise", "initial noise", "cause", ("seed",), 1, 1.4, 1e7, True),
         Stage("schedule", "schedule", "noise", (), 2, None, 0.5), Stage("vae", "VAE", "none"),
         Stage("post_processing", "image", "inherits", (), 1, None, float("inf"))]
pairs = [{"reference": "t/in", "candidate": "t/in", "difference": 0.0, "floor": 1e-7, "first": False},
         {"reference": "t/x.0.q", "candidate": "t/blocks.0.attn.q", "difference": 1e-3, "floor": 1e-7, "first": True},
         {"reference": "t/x.0", "candidate": "t/blocks.0", "difference": 1e-3, "floor": 1e-7, "first": False},
         {"reference": "t/x.1", "candidate": "t/blocks.1", "difference": 3e-3, "floor": 1e-7, "first": False}]
undone = [("sigmas", 1e6, None), ("latents", 1e7, 0.0), ("image", float("inf"), 3e4)]

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
    "pictures with what is seen": ((1, 4), [{"reference": picture, "candidate": picture * 0.5}]),
    "picture_difference": ((1, 1), [picture[0], picture[0] * 0.9, 10.0]),
    "flip_map": ((1, 1), [picture[0], picture[0] * 0.9]),
    "round_trip": ((1, 4), [{"before": picture, "after": picture * 0.99, "psnr": 40.0, "vae": "reference"}]),
    "round_trip, none": ((1, 4), [{}]),
    "pipeline": ((1, 1), [strip]),
    "pipeline, none": ((1, 1), [[]]),
    "before_after": ((1, 1), [undone, "all $2 causes"]),
    "before_after, none": ((1, 1), [[]]),
    "repaired_pictures": ((1, 3), [[("as it $runs", "", film), ("repaired", "nearer", None)]]),
    "module_tree": ((1, 1), [module_tree.tree(pairs)]),
    "module_tree, none": ((1, 1), [None]),
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
    assert {name.split(",")[0].split(" ")[0] for name in VIEWS} | {"contact_sheet"} == set(views.__all__)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_exact_zero_has_a_look_of_its_own_and_the_scale_is_symmetric(ax):
    moved = picture[0].clone()
    moved[0, 0, 1] += 0.25
    views.picture_difference(ax, picture[0], moved, amplify=2)
    shown = ax.images[0]
    assert shown.get_clim() == (-0.5, 0.5)
    assert shown.get_array().mask.sum() == 6 * 8 - 1 and shown.get_array()[0, 0] == pytest.approx(0.25)
    assert ax.patch.get_hatch() == ZERO and "exactly equal" in ax.get_xlabel()


def test_no_dots_are_promised_where_nothing_is_equal(ax):
    views.picture_difference(ax, picture[0], picture[0] + 1e-6)
    assert not ax.patch.get_hatch() and not ax.images[0].get_array().mask.any()


def test_red_and_blue_exchanged_are_a_difference(ax):
    red = torch.zeros(4, 4, 3)
    red[..., 0] = 1
    views.picture_difference(ax, red, red.flip(-1))
    assert np.abs(ax.images[0].get_array()).min() == 1


def test_first_divergence_is_marked_at_its_stage_and_what_goes_wrong_has_a_thick_frame(ax):
    views.pipeline(ax, strip)
    mark = next(text for text in ax.texts if text.get_text() == "first divergence")
    assert mark.xy[0] == 1
    frames = {box.get_label(): box.get_linewidth() for box in ax.patches}
    assert [stage for stage, width in frames.items() if width > 2] == ["rng_noise"]


def test_louder_stages_are_darker_and_what_was_not_compared_has_no_colour(ax):
    views.pipeline(ax, strip)
    faces = {box.get_label(): box.get_facecolor() for box in ax.patches}
    assert sum(faces["rng_noise"][:3]) < sum(faces["schedule"][:3]) or faces["schedule"][3] == 0
    assert faces["vae"][3] == 0 and "other shapes" in " ".join(words(ax)).replace("\n", " ")


def test_a_repair_is_drawn_from_before_to_after(ax):
    views.before_after(ax, undone, "seed")
    ends = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert [tuple(end) for end in ends] == [(1e7, 1e-2), (1e10, 3e4)]
    assert "repaired right here" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_block_adds_what_is_louder_than_all_before_it():
    blocks = {block.name: block for block in module_tree.tree(pairs).walk()}
    assert blocks["t/blocks.0"].added == pytest.approx(1e4) and blocks["t/blocks.1"].added == pytest.approx(2e4)
    assert blocks["t/in"].floors == 0 and not blocks["t/in"].first
    assert blocks["t/blocks.0.attn.q"].first and blocks["t/blocks.0.attn"].first and not blocks["t/blocks.1"].first
    assert blocks["t/blocks.0.attn"].floors == pytest.approx(1e4)  # not paired itself: the most of what is inside


def test_the_first_module_to_depart_is_named_where_its_block_is_drawn(ax):
    views.module_tree(ax, module_tree.tree(pairs), deepest=2)
    assert words(ax) == [" ◀ first to depart: attn.q"]


def test_padding_and_what_a_mask_hides_are_hatched_under_the_tokens(ax):
    marks = {"input_ids": {"padding": [False, True, True], "hidden, candidate": [False, False, True], "hidden, reference": [False] * 3}}
    views.token_differences(ax, {"prompt_embeds": [0.1, 0.2, 0.3]}, {"input_ids": ["a", "$", "<pad>"]}, marks)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["prompt_embeds", "padding", "hidden, candidate"]
    assert [(box.get_x() + 0.5, box.get_y() + 0.4) for box in ax.patches] == [(1, 1), (2, 1), (2, 2)]
    assert len({box.get_hatch() for box in ax.patches}) == 2


def test_the_end_of_a_row_of_repairs_is_never_left_out():
    figure, axes = plt.subplots(1, 3)
    views.repaired_pictures(axes, [(name, "", picture) for name in ("as it runs", "one", "two", "all", "reference")])
    assert [ax.get_title() for ax in axes] == ["as it runs", "all", "reference"]
    plt.close(figure)


def test_a_contact_sheet_has_a_square_for_each_case_and_a_thick_frame_where_they_differ():
    figure = plt.figure()
    items = [{"title": "one $", "verdict": "different", "words": "seed", "reference": picture, "candidate": film},
             {"title": "two", "verdict": "same", "reference": None, "candidate": picture}, {"title": "three", "verdict": "vacuous"}]
    axes = views.contact_sheet(figure, items, columns=2)
    assert len(axes) == 3 and [ax.spines["top"].get_linewidth() > 2 for ax in axes] == [True, False, False]
    assert axes[0].get_xlabel() == "≠ different: seed" and [len(ax.images) for ax in axes] == [2, 1, 0]
    figure.canvas.draw()
    plt.close(figure)


def test_a_sheet_without_cases_says_so():
    figure = plt.figure()
    assert views.contact_sheet(figure, []) == [] and figure.axes[0].get_title() == "No cases"
    plt.close(figure)


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
