"""Arguments that one network does without, and evaluations that one side skips."""

import torch

from whydiff.engine.missing import call_counts, evaluations, left_out
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place


def trace(steps, *, guidance: bool | None = True, branches=("cond",), component="transformer"):
    """A run that evaluated its network at `steps`; guidance True: passed, False: left out, None: not an argument."""
    made = Trace()
    made.add(Event(Place("timesteps"), torch.arange(4.0)))
    for step in steps:
        for branch in branches:
            if guidance:
                made.add(Event(Place("model_input/guidance", step, branch), torch.ones(1)))
            elif guidance is False:
                made.absent.add(Place("model_input/guidance", step, branch))
            name = "noise_pred_uncond" if branch == "uncond" else "noise_pred_text"
            made.add(Event(Place(name, step, branch), torch.ones(2, 3), component=component))
        made.add(Event(Place("latents", step), torch.ones(2, 3)))
    return made


def test_an_argument_that_only_one_side_passes_is_found_on_either_side():
    with_it, without = trace(range(4)), trace(range(4), guidance=False)
    for sides, who in (((with_it, without), "candidate's"), ((without, with_it), "reference's")):
        [finding] = left_out(*sides)
        assert finding.probe == "model_input/guidance" and len(finding.places) == 4 and who in finding.why


def test_an_argument_that_a_network_does_not_know_is_not_left_out():
    assert left_out(trace(range(4)), trace(range(4), guidance=None)) == []


def test_a_skipped_evaluation_is_found_with_its_step():
    finding = call_counts(trace(range(4)), trace([0, 1, 3]))
    assert finding.probe == "timesteps" and "first at step 2: 0 against 1" in finding.why


def test_two_evaluations_a_step_differ_from_one():
    finding = call_counts(trace(range(4)), trace(range(4), branches=("uncond", "cond")))
    assert "8 times" in finding.why and "first at step 0: 2 against 1" in finding.why


def test_where_only_taps_tell_steps_are_counted_and_branches_are_not():
    tapped = trace(range(4), branches=("uncond", "cond"), component=None)
    assert evaluations(tapped) == {} and call_counts(trace(range(4)), tapped) is None
    assert call_counts(trace(range(4)), trace(range(3), component=None)) is not None


def test_what_is_left_out_survives_saving(tmp_path):
    without = trace(range(2), guidance=False)
    without.save(tmp_path / "t")
    assert Trace.load(tmp_path / "t").absent == without.absent
