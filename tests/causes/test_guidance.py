"""Which formula combined two predictions is read from the tensors, on either side."""

import math

import pytest
import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.guidance import embedded as embedded_guidance
from whydiff.causes.guidance import formula as guidance_formula
from whydiff.formulas.guidance import combine, fit_guidance
from whydiff.places import Place

SHAPE, STEPS = (2, 12, 8), 4


def predictions():
    uncond = [normal(*SHAPE, seed=i) for i in range(STEPS)]
    return [(u + 0.2 * normal(*SHAPE, seed=50 + i), u) for i, u in enumerate(uncond)]


def side(formula, settings=None):
    """A recording whose predictions are combined by formula(step, cond, uncond)."""
    tensors = {}
    for i, (c, u) in enumerate(predictions()):
        tensors |= {Place("noise_pred_text", i, "cond"): c, Place("noise_pred_uncond", i, "uncond"): u,
                    Place("noise_pred", i): formula(i, c, u)}  # fmt: skip
    return trace(tensors, settings)


def plain(scale):
    return lambda i, c, u: combine("plain", c, u, scale)


def explained(mine, theirs, settings=(None, None)):
    lab = lab_of(side(mine, settings[0]), side(theirs, settings[1]))
    return guidance_formula.explain(finding(lab, "noise_pred"), lab)


FORMULAS = {
    "plain": ("", None), "zero_star": ("sample", None), "rescaled": ("sample", 0.7), "projected": ("sample", 0.0),
    "norm": ("token", None),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("shape", [(2, 12, 8), (2, 4, 6, 6)])
def test_each_formula_is_told_from_the_others_with_its_scale(kind, shape):
    over, phi = FORMULAS[kind]
    steps = []
    for i in range(3):
        u = normal(*shape, seed=i)
        c = u + 0.1 * normal(*shape, seed=9 + i)
        steps.append((c, u, combine(kind, c, u, 4.5, over or "sample", phi)))
    found = fit_guidance(steps)
    assert (found.kind, found.over, found.scale) == (kind, over if kind in ("zero_star", "norm") else "", 4.5)


def negated(formula):
    return lambda i, c, u: -formula(i, c, u)


def zero_star(i, c, u):
    return combine("zero_star", c, u, 4.0)


def test_a_guided_prediction_that_both_sides_negate_is_fitted_all_the_same():
    [found] = explained(negated(zero_star), negated(plain(4.0)))
    assert found.id == "cfg-zero-star" and "minus" in found.statement


def test_a_sign_beside_another_formula_is_told_as_well():
    assert [e.id for e in explained(negated(zero_star), plain(4.0))] == ["velocity-sign", "cfg-zero-star"]
    assert [e.id for e in explained(negated(plain(4.0)), plain(7.0))] == ["velocity-sign", "guidance-scale"]


def test_predictions_combined_by_no_known_formula_have_no_name():
    steps = [(c, u, u + 3 * (c - u).tanh()) for c, u in predictions()]
    assert fit_guidance(steps) is None
    assert explained(plain(3.0), lambda i, c, u: u + 3 * (c - u).tanh()) == []


def test_a_scale_one_larger_for_the_same_request_is_the_other_formula():
    settings = {"guidance_scale": 4.0}
    (cause,) = explained(plain(4.0), lambda i, c, u: c + 4 * (c - u), (settings, settings))
    assert (cause.id, cause.equivalent, cause.departs) == ("cfg-formula-offset", ["guidance-scale"], "candidate")
    (cause,) = explained(lambda i, c, u: c + 4 * (c - u), plain(4.0), (settings, settings))
    assert (cause.id, cause.departs) == ("cfg-formula-offset", "reference")


def test_scales_that_both_sides_were_asked_for_are_only_scales():
    (cause,) = explained(plain(4.0), plain(5.0), ({"guidance_scale": 4.0}, {"guidance_scale": 5.0}))
    assert (cause.id, cause.equivalent) == ("guidance-scale", [])


def test_a_zero_that_took_no_effect_was_taken_for_missing():
    (cause,) = explained(plain(7.5), plain(7.5 / 2), ({"guidance_scale": 7.5}, {"guidance_scale": 0.0}))
    assert cause.id == "zero-value-treated-as-missing"


def test_exchanged_branches_are_named():
    (cause,) = explained(plain(5.0), lambda i, c, u: c + 5 * (u - c))
    assert cause.id == "cond-uncond-swapped"


@pytest.mark.parametrize("swap", [False, True])
def test_formulas_that_differ_are_named_on_either_side(swap):
    expected = {
        "cfg-zero-star": lambda i, c, u: combine("zero_star", c, u, 4.0),
        "cfg-norm-missing": lambda i, c, u: combine("norm", c, u, 4.0, "token"),
        "guidance-rescale": lambda i, c, u: combine("rescaled", c, u, 4.0, phi=0.7),
        "guidance-projected": lambda i, c, u: combine("projected", c, u, 4.0, phi=0.0),
        "dynamic-cfg-missing": lambda i, c, u: combine("plain", c, u, 1 + 3 * math.cos(i / 3)),
    }
    for id_, formula in expected.items():
        found = explained(*((formula, plain(4.0)) if swap else (plain(4.0), formula)))
        assert [cause.id for cause in found] == [id_]
        assert found[0].explained > 0.99


def test_a_zeroed_first_step_is_cfg_zero_star():
    (cause,) = explained(plain(4.0), lambda i, c, u: c * 0 if i == 0 else combine("plain", c, u, 4.0))
    assert cause.id == "cfg-zero-star"
    assert cause.relation["zero_steps"] == [0, 1]


def test_a_factor_of_the_batch_instead_of_each_sample_is_cfg_zero_star():
    (cause,) = explained(lambda i, c, u: combine("zero_star", c, u, 4.0), lambda i, c, u: combine("zero_star", c, u, 4.0, "batch"))
    assert cause.id == "cfg-zero-star"


def test_a_formula_and_a_scale_are_two_causes():
    found = explained(plain(4.0), lambda i, c, u: combine("norm", c, u, 6.0, "token"))
    assert [cause.id for cause in found] == ["cfg-norm-missing", "guidance-scale"]


def embedded(mine, theirs, settings=({}, {})):
    places = [Place("model_input/guidance", i) for i in range(3)]
    lab = lab_of(*(trace({p: torch.tensor([value]) for p in places}, s) for value, s in zip((mine, theirs), settings, strict=True)))
    return embedded_guidance.explain(finding(lab, "model_input/guidance"), lab)


def test_embedded_guidance_is_named_by_what_was_asked_for():
    assert embedded(3.5, 3500.0)[0].id == "guidance-times-1000"
    assert embedded(3.5, 7.0)[0].id == "guidance-scale"
    assert embedded(0.0, 3.5, ({"guidance_scale": 0.0},) * 2)[0].id == "zero-value-treated-as-missing"
    assert embedded(3.5, 7.0, ({"guidance_scale": 3.5},) * 2)[0].departs == "candidate"


def test_guidance_left_out_of_a_recorded_call_is_named():
    place = Place("model_input/guidance", 0)
    given, without = trace({place: torch.tensor([3.5])}), trace({"latents": normal(2)})
    without.absent.add(place)
    lab = lab_of(given, without)
    here = finding(lab_of(given, trace({place: torch.tensor([1.0])})), place.probe)
    here.candidate = {}
    (cause,) = embedded_guidance.explain_absent(here, lab)
    assert (cause.id, cause.departs, cause.relation["reference"]) == ("guidance-tensor-none", "candidate", 3.5)
