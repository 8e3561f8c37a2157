"""What shows values shows what is known where there are only fingerprints."""

import pytest
import torch

from whydiff.audits.table import AUDITS
from whydiff.engine.api import study
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place
from whydiff.widgets.places import figures


@pytest.fixture
def studied(tmp_path):
    for name, shift in (("a", 0.0), ("b", 0.25)):
        trace = Trace()
        for step in range(3):
            trace.add(Event(Place("latents", step), torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(step)) + shift))
        trace.save(tmp_path / name, "fingerprint")
    return study(make_case({"reference": {"trace": str(tmp_path / "a")}, "candidate": {"trace": str(tmp_path / "b")}}))


def test_a_place_of_which_there_is_a_fingerprint_shows_its_estimate(studied):
    assert ["known", "estimated from sketches"] in figures(studied, studied.rows[0])


def test_no_audit_needs_values_that_nobody_recorded(studied):
    for audit in AUDITS:
        assert audit.run(studied).verdict, audit.name


def test_a_value_that_is_asked_for_is_answered_with_the_level_to_record(tmp_path, studied):
    with pytest.raises(Trouble, match="only a fingerprint was recorded. Record at level full"):
        read_trace(tmp_path / "a")[Place("latents", 0)]
