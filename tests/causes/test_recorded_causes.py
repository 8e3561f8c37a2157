"""What two recordings alone can tell about schedules, scaled inputs and guidance."""

import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.guidance import formula, picture
from whydiff.causes.schedule import lists, received
from whydiff.formulas.guidance import combine
from whydiff.places import Place


def test_a_first_sigma_moved_off_one_does_not_hide_a_grid_in_bfloat16():
    grid = torch.linspace(1, 1 / 7, 7)

    def listed(grid):
        sigmas = (3 * grid / (1 + 2 * grid)).float()
        sigmas[0] -= 1e-6  # as UniPC does
        return torch.cat([sigmas, sigmas.new_zeros(1)])

    lab = lab_of(trace({"sigmas": listed(grid)}), trace({"sigmas": listed(grid.bfloat16().float())}))
    (named,) = lists.explain(finding(lab, "sigmas"), lab)
    assert (named.id, named.departs) == ("sigmas-built-in-low-precision", "candidate")


def test_a_scale_that_falls_with_the_steps_is_seen_beneath_a_rescaling_to_the_conditional_norm():
    def side(scales):
        tensors = {}
        for i, scale in enumerate(scales):
            u = normal(1, 12, 8, seed=i)
            c = u + 0.2 * normal(1, 12, 8, seed=50 + i)
            tensors |= {Place("noise_pred_text", i, "cond"): c, Place("noise_pred_uncond", i, "uncond"): u,
                        Place("noise_pred", i): combine("norm", c, u, scale, "token")}  # fmt: skip
        return trace(tensors)

    lab = lab_of(side([4.0] * 4), side([5.0, 3.1, 1.7, 1.1]))
    (named,) = formula.explain(finding(lab, "noise_pred"), lab)
    assert named.id == "dynamic-cfg-missing"


SIGMAS = torch.tensor([14.6, 3.0, 1.0, 0.0])


def sampled(scaled, drift=0.0, power=0.5):
    """A sigma-space loop whose network receives latents, divided or not; `drift` makes later latents differ."""
    x, tensors = normal(1, 4, 6, 6) * 14.6, {"sigmas": SIGMAS}
    tensors["initial_latents"] = x
    for k in range(3):
        tensors[Place("latent_model_input", k)] = x / float(SIGMAS[k] ** 2 + 1) ** power if scaled else x
        x = x * 0.5 + drift * normal(1, 4, 6, 6, seed=k + 1)
        tensors[Place("latents", k)] = x
    return trace(tensors)


def test_an_input_that_is_not_scaled_shows_within_each_side_although_later_latents_differ():
    for sides, lacking in (((True, False), "candidate"), ((False, True), "reference")):
        lab = lab_of(sampled(sides[0]), sampled(sides[1], drift=1.0))
        (named,) = received.explain(finding(lab, "latent_model_input"), lab)
        assert (named.id, named.departs) == ("scale-model-input-missing", lacking)


def test_an_input_divided_by_something_else_is_not_called_unscaled():
    lab = lab_of(sampled(True, power=1.0), sampled(False))
    assert received.explain(finding(lab, "latent_model_input"), lab) == []


def conditioned(cond, uncond):
    probe = "model_input/encoder_hidden_states_image"
    return trace({Place(probe, 0, "cond"): cond, Place(probe, 0, "uncond"): uncond})


def test_a_picture_that_the_unconditional_branch_lacks_is_named_only_if_the_other_branch_has_it():
    shown = normal(1, 5, 8)
    lab = lab_of(conditioned(shown, shown), conditioned(shown, torch.zeros(1, 5, 8)))
    (named,) = picture.explain(finding(lab, "model_input/encoder_hidden_states_image"), lab)
    assert (named.id, named.relation["side"]) == ("negative-image-dropped", "candidate")
    lab = lab_of(conditioned(shown, shown), conditioned(shown * 0, shown * 0))
    both = finding(lab, "model_input/encoder_hidden_states_image")
    assert picture.explain(both, lab) == []
    both.places = both.places[1:]
    assert picture.explain(both, lab) == []
