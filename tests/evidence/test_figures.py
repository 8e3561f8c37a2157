"""FastVideo's activation traces, and places of which only figures are known: a moved figure is a difference, equal ones prove nothing."""

import json
import pathlib

import pytest
import torch

from whydiff.engine.api import study
from whydiff.engine.files import compare_files
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case
from whydiff.evidence.readers import import_dump
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.figures import apart, completed, figures_of
from whydiff.places import Place

DUMPS = pathlib.Path(__file__).parent / "dumps" / "fastvideo"
ALL, DEFAULT, EPS = (DUMPS / f"fv_trace_{name}.jsonl" for name in ("all", "default", "eps"))


def verdict(reference, candidate):
    return study(make_case({"reference": {"trace": str(reference)}, "candidate": {"trace": str(candidate)}})).verdict


def of_tensors(folder, *tensors):
    """A trace of modules `transformer/0`, `transformer/1`, ..."""
    trace = Trace()
    for number, tensor in enumerate(tensors):
        trace.add(Event(Place("modules", 0, module=f"transformer/{number}"), tensor))
    return trace.save(folder)


def lines(path, *entries):
    """An activation trace of the modules 0, 1, ..., as FastVideo writes it."""
    path.write_text("".join(json.dumps({"module": str(n), "tensor": "out", "step": 0} | entry) + "\n" for n, entry in enumerate(entries)))
    return path


def test_every_line_of_fastvideo_is_a_place_with_its_figures():
    trace = import_dump(ALL)
    assert trace.producer["format"] == "fastvideo" and len(trace.places) == 52 and trace.steps == 2
    held = trace.figures[Place("modules", 0, module="transformer/blocks.0.norm")]
    assert held.shape == (1, 10, 6) and held.dtype == "float32" and held.figures["sample_std"] == pytest.approx(1.00843, abs=1e-5)
    assert Place("modules/1", 1, occurrence=1, module="transformer/blocks.1.split") in trace.figures
    with pytest.raises(Trouble, match="only figures were recorded"):
        trace[Place("modules", 0, module="transformer/blocks.0.norm")]


def test_a_figure_that_moved_is_a_difference_at_the_first_module_that_departs():
    found = verdict(ALL, EPS)
    assert found.verdict == "different" and found.causes == []
    assert found.first_divergence["module"] == "transformer/blocks.1.norm" and found.first_divergence["step"] == 0
    assert found.first_divergence["difference"] is None  # a distance is not known
    assert "only figures are known: max is 1.8974 against 1.87799" in found.unexplained[0]["why"]
    assert str(compare_files(ALL, EPS)).endswith("different: 52 tensors compared, first at transformer/blocks.1.norm, step 0")


def test_equal_figures_are_never_called_the_same(tmp_path):
    """Two tensors of one set of values in two orders: every figure agrees, no element does."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    figures = {"abs_mean": float(values.abs().mean()), "max": float(values.max()), "shape": [1000], "dtype": "torch.float32"}
    whole = of_tensors(tmp_path / "whole", values.flip(0))
    for reference, candidate in ((ALL, DEFAULT), (lines(tmp_path / "a.jsonl", figures), whole), (ALL, ALL)):
        found = verdict(reference, candidate)
        assert found.verdict != "same" and found.verdict != "different"
        assert any("values may still differ" in note for note in found.notes)
        line = compare_files(reference, candidate).lines[0]
        assert line.verdict == "within_noise" and "agrees in all recorded figures" in str(line)
    assert "agree in all recorded figures" in verdict(ALL, DEFAULT).summary


@pytest.mark.parametrize("level", ["full", "fingerprint"])
def test_figures_are_held_against_tensors_and_fingerprints(level, tmp_path):
    values = torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    read_trace(of_tensors(tmp_path / "full", values)).save(tmp_path / "fingerprint", "fingerprint")
    about = {"shape": [50, 100], "dtype": "torch.float32"}
    own, off = (about | {"sum": float(t.sum()), "std": float(t.std())} for t in (values, values + 1e-4))
    assert verdict(tmp_path / level, lines(tmp_path / "own.jsonl", own)).verdict == "within_noise"
    found = verdict(tmp_path / level, lines(tmp_path / "off.jsonl", off))
    assert found.verdict == "different" and "mean is" in found.unexplained[0]["why"]  # a sum is judged as the mean it makes


def test_rounding_is_no_difference_and_the_coarsest_type_is_assumed_where_none_is_known(tmp_path):
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    mean, moved = float(values.abs().mean()), float(values.abs().mean()) * (1 + 1e-3)
    bare = [lines(tmp_path / f"{n}.jsonl", {"abs_mean": v}) for n, v in (("a", mean), ("b", moved))]
    assert verdict(*bare).verdict == "within_noise"  # bfloat16 has 8e-3
    known = [lines(tmp_path / f"{n}.jsonl", {"abs_mean": v, "dtype": "torch.float32"}) for n, v in (("c", mean), ("d", moved))]
    assert verdict(*known).verdict == "different"


def test_a_sum_without_the_number_of_elements_proves_nothing(tmp_path):
    found = compare_files(lines(tmp_path / "a.jsonl", {"sum": 1e-5}), lines(tmp_path / "b.jsonl", {"sum": -3e-5}))
    assert found.verdict != "different"
    assert any("sums are not judged" in note for note in import_dump(DEFAULT).producer["notes"])


def test_what_moved_is_never_more_than_how_far_the_tensors_are_apart():
    generator = torch.Generator().manual_seed(0)
    for shift in (0.0, 3.0, 100.0):
        a = torch.randn(3000, generator=generator) + shift
        b = a + 0.1 * torch.randn(3000, generator=generator) * a.abs()
        moved = apart(figures_of(a), figures_of(b))
        distance = float((a - b).norm() / min(a.norm(), b.norm()))
        assert max(moved[name] for name in ("mean", "abs_mean", "std")) <= distance


def test_one_side_that_is_not_finite_stands_out(tmp_path):
    sides = [lines(tmp_path / f"{n}.jsonl", {"abs_mean": v, "shape": [4]}) for n, v in (("a", 0.5), ("b", float("nan")))]
    assert verdict(*sides).verdict == "different" and verdict(sides[1], sides[1]).verdict != "different"


def test_figures_follow_from_each_other():
    values = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = completed({"sum": float(values.sum()), "sample_std": float(values.std())}, 7)
    assert found["mean"] == pytest.approx(float(values.mean())) and found["std"] == pytest.approx(float(values.std(unbiased=False)))


def test_figures_and_ranks_survive_a_trace_folder(tmp_path):
    trace = import_dump(EPS)
    entry = next(iter(trace.figures.values()))
    entry.figures["max"] = float("inf")
    trace.add(Event(Place("latents", 0, rank=1), torch.zeros(2)))
    again = read_trace(trace.save(tmp_path / "t"))
    assert again.figures == trace.figures and Place("latents", 0, rank=1) in again


def test_a_line_cut_short_at_the_end_is_left_out_and_a_damaged_one_is_named(tmp_path):
    whole = ALL.read_text()
    (tmp_path / "short.jsonl").write_text(whole[:-30])
    trace = import_dump(tmp_path / "short.jsonl")
    assert len(trace.places) == 51 and not trace.complete
    (tmp_path / "bad.jsonl").write_text(whole.replace('"step": 1', '"step": ', 1))
    with pytest.raises(Trouble, match="line 27"):
        import_dump(tmp_path / "bad.jsonl")
