"""Predictions that a network gives again, alone and beside another difference."""

from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.calls import reused
from whydiff.places import Place

PROBE = "noise_pred_text"


def predictions(held, shift=0.0):
    """Four steps; at those of `held` the prediction of the step before comes again."""
    made = []
    for step in range(4):
        made.append(made[-1] if step in held else normal(1, 4, 8, 8, seed=step) + shift)
    return trace({Place(PROBE, step): tensor for step, tensor in enumerate(made)})


def test_a_prediction_given_again_is_named_on_the_side_that_gives_it():
    for sides, role in (((predictions({2}), predictions(())), "reference"), ((predictions(()), predictions({1, 3})), "candidate")):
        lab = lab_of(*sides)
        cause = reused.explain(finding(lab, PROBE), lab)[0]
        assert (cause.id, cause.departs) == ("accelerator-on-one-side", role)


def test_beside_another_difference_its_steps_are_taken_out_and_the_others_are_left():
    lab = lab_of(predictions(()), predictions({2}, shift=0.5))
    found = finding(lab, PROBE)
    assert reused.explain(found, lab) == []
    (part, cause), rest = *reused.apart(found, lab)[0], reused.apart(found, lab)[1]
    assert cause.relation["steps"] == [2] and [p.step for p in part.places] == [2] and [p.step for p in rest.places] == [0, 1, 3]


def test_both_sides_with_one_cache_have_no_cause():
    lab = lab_of(predictions({2}), predictions({2}, shift=0.5))
    found = finding(lab, PROBE)
    assert reused.explain(found, lab) == [] and reused.apart(found, lab) == ([], found)


def test_a_cache_that_gives_one_branch_what_the_other_had_at_the_step_before_is_seen_and_equal_branches_are_not():
    def branches(mixed):
        made = {}
        for step in range(3):
            made[Place("noise_pred_uncond", step, "uncond")] = normal(1, 4, 8, 8, seed=10 + step)
            made[Place(PROBE, step, "cond")] = normal(1, 4, 8, 8, seed=step)
        return trace(made | mixed)

    plain = branches({})
    late = branches({Place(PROBE, 2, "cond"): plain[Place("noise_pred_uncond", 1, "uncond")]})
    lab = lab_of(plain, late)
    assert reused.explain(finding(lab, PROBE), lab)[0].departs == "candidate"
    equal = branches({Place(PROBE, 2, "cond"): plain[Place("noise_pred_uncond", 2, "uncond")]})
    lab = lab_of(plain, equal)
    assert reused.explain(finding(lab, PROBE), lab) == []
