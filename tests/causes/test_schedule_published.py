"""Which of two grids of sigmas departs is decided by the reference code of the model, and by nobody else."""

import types

import pytest
import torch

from whydiff.causes.finding import Finding
from whydiff.causes.schedule import solved
from whydiff.causes.schedule.published import published_grid
from whydiff.evidence.traces.trace import Trace
from whydiff.formulas.schedule import wan_unipc_sigmas
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

PLACE = Place("sigmas")


def grid(version):
    return torch.tensor(wan_unipc_sigmas(27, 12.0, version, terminal=True), dtype=torch.float32)


def lab_of(name, network):
    producer = {"name": name, "components": {"transformer": {"class": network, "config": {}}}}
    traces = {role: Trace(producer=producer) for role in ("reference", "candidate")}
    return types.SimpleNamespace(traces=traces, sides=dict.fromkeys(traces), config=lambda component, key: None)


def named(reference, candidate, lab):
    tensors = {"reference": {PLACE: reference}, "candidate": {PLACE: candidate}}
    finding = Finding("sigmas", [PLACE], **tensors, difference=relative_l2(reference, candidate), floor=0.0)
    (cause,) = solved.explain(finding, lab)
    return cause


@pytest.mark.parametrize("reference, candidate, departs", [("0.42.1", "0.36.0", "reference"), ("0.36.0", "0.42.1", "candidate")])
def test_the_side_that_leaves_the_grid_of_the_reference_code_departs(reference, candidate, departs):
    cause = named(grid(reference), grid(candidate), lab_of("diffusers.pipelines.wan.pipeline_wan.WanPipeline", "diffusers.WanTransformer3DModel"))
    assert (cause.id, cause.departs) == ("sigma-grid-endpoints", departs)
    assert "ending at 0.037" in cause.fix and "official Wan2.2" in cause.experiment and "wan/text2video.py" in cause.experiment


def test_for_a_model_whose_grid_nobody_wrote_down_it_is_not_known():
    assert named(grid("0.42.1"), grid("0.36.0"), lab_of("my.Sampler", "my.Network")).departs == "unknown"


@pytest.mark.parametrize("network, grid_", [
    ("FluxTransformer2DModel", "trailing"),
    ("LongCatTransformer", "thousandth"),
    ("UNet2DConditionModel", None),
])  # fmt: skip
def test_a_model_is_known_by_the_names_of_its_classes(network, grid_):
    found = published_grid(lab_of("a.Pipeline", network))
    assert (found and found[0]) == grid_
