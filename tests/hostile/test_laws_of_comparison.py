"""What compare and the search for relations promise of any two tensors: empty, of no axis, of any type, not finite, huge, tiny."""

import json
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from tensors_drawn import FLOATS, pairs, tensors

from whydiff.errors import Trouble
from whydiff.formulas.schedule_solve import solve_schedule
from whydiff.measure.compare import compare, relative_l2
from whydiff.measure.relations import relations

TINY = 1e-150  # whose square is 0 in float64: two tensors closer than that are one


def truly_equal(a, b) -> bool:
    x, y = (t.to(torch.complex128) for t in (a, b))
    same = (torch.view_as_real(x) == torch.view_as_real(y)).all(-1)
    nan = torch.isnan(x) & torch.isnan(y)
    exact = a.dtype == b.dtype or a.is_floating_point() or b.is_floating_point() or a.is_complex() or b.is_complex()
    return bool((same | nan).all()) and (exact or torch.equal(a.to(torch.int64), b.to(torch.int64)))


@given(tensors())
def test_every_tensor_is_equal_to_itself(a):
    found = compare(a, a.clone())
    assert found.equal and found.differing == 0 and found.relative_l2 in (0.0, None)
    assert (found.relative_l2 is None) == (found.nonfinite_reference > 0)
    assert json.dumps(found.to_dict()) and str(found)


@given(pairs())
def test_two_tensors_are_equal_only_if_all_values_are(pair):
    a, b = pair
    found = compare(a, b)
    assert found.equal == truly_equal(a, b) == compare(b, a).equal
    assert found.relative_l2 is None or (0 <= found.relative_l2 < math.inf and (found.relative_l2 > 0 or found.equal or found.max_abs < TINY))
    assert json.dumps(found.to_dict()) and str(found)


@given(tensors(), tensors())
def test_other_shapes_are_never_equal(a, b):
    if a.shape != b.shape:
        assert not compare(a, b).equal and compare(a, b).why == "shapes differ"


@given(pairs())
def test_a_distance_never_agrees_by_accident(pair):
    a, b = pair
    distance = relative_l2(a, b)
    assert distance >= 0 and not math.isnan(distance)
    if not compare(a, b).equal and compare(a, b).relative_l2 is None:
        assert distance == math.inf


@given(pairs())
def test_a_relation_is_accepted_only_where_it_reproduces_the_candidate(pair):
    a, b = pair
    rounds = not (b.is_floating_point() or b.is_complex())  # a prediction is rounded before it is held against integers
    for found in relations(a, b):
        assert not math.isnan(found.residual) or not found.accepted
        if found.accepted and found.kind == "identical" and not rounds:
            assert truly_equal(a.to(torch.complex128), b.to(torch.complex128)) or compare(a, b).max_abs < TINY


@given(tensors(dtypes=FLOATS[:2]), st.sampled_from([-1.0, 2.0, 0.5]))
def test_a_scale_that_was_put_in_is_never_told_as_another(a, scale):
    if a.numel() >= 4 and bool(a.isfinite().all()) and 1e-3 < float(a.abs().max()) < 1e30:
        accepted = [found for found in relations(a, a * scale) if found.accepted]
        assert accepted
        told = accepted[0].parameters.get("scale")
        assert told is None or math.isclose(told, scale, rel_tol=1e-3)


@given(st.lists(st.one_of(st.floats(), st.floats(0, 1), st.integers(-(10**30), 10**30).map(float)), max_size=6))
def test_any_list_of_numbers_is_solved_or_refused(values):
    try:
        found = solve_schedule(values, steps=max(1, len(values)))
    except Trouble:
        return
    assert all(fit.residual <= 0.01 for fit in found if fit.explains)
