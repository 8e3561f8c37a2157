"""What is written is read back: every type and shape, odd names, any number of steps; as a folder, a zip, a fingerprint and a bundle."""

import pathlib
import shutil
import tempfile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensors_drawn import tensors

from whydiff import Trace
from whydiff.bundle import bundle
from whydiff.cli import run
from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.tensor_files import storable
from whydiff.evidence.traces.trace import Event
from whydiff.places import Place

odd = ["latents", "model_input/timestep", "../x", "a\nb", "a\x00b", "\u2028", "é<script>", '"', "\\", "CON", ""]
names = st.one_of(st.sampled_from(odd), st.text(max_size=20))
counted = st.one_of(st.none(), st.integers(0, 999))
places = st.builds(Place, names, counted, st.one_of(st.none(), names), st.integers(0, 9), st.one_of(st.none(), names), counted)
# Figures may be of any size; no number stands for them that is not finite.
figures = st.dictionaries(st.sampled_from(["mean", "std", "min", "max", "sum"]), st.floats(allow_nan=False, allow_infinity=False), min_size=1)


@given(st.dictionaries(places, tensors(), max_size=5), st.dictionaries(places, figures, max_size=2), st.booleans())
def test_a_trace_reads_back_exactly_from_a_folder_and_from_a_zip(held, known, packed):
    made = Trace(producer={"name": "x"}, settings={"seed": 0}, floor={"latents": 1e-7})
    for place, tensor in held.items():
        made.add(Event(place, tensor))
    for place, figured in known.items():
        if place not in held:
            made.figures[place] = Figured(place, figured)
    with tempfile.TemporaryDirectory() as inner:
        folder = made.save(pathlib.Path(inner) / "t")
        again = read_trace(shutil.make_archive(str(folder), "zip", inner, "t") if packed else folder)
    assert list(again) == list(made) and again.complete and again.floor == made.floor
    for place, tensor in held.items():
        kept = storable(tensor)
        assert again[place].dtype == kept.dtype and again[place].shape == kept.shape
        assert torch.equal(again[place].reshape(-1).view(torch.uint8), kept.reshape(-1).contiguous().view(torch.uint8))
    assert {p: f.figures for p, f in again.figures.items()} == {p: f.figures for p, f in made.figures.items()}


@given(st.dictionaries(places, tensors(), max_size=4))
def test_a_fingerprint_keeps_every_place_its_shape_and_small_tensors_whole(held):
    made = Trace()
    for place, tensor in held.items():
        made.add(Event(place, tensor))
    made.add(Event(Place("large", 3), torch.linspace(-1, 1, 5000)))
    with tempfile.TemporaryDirectory() as inner:
        again = read_trace(made.save(pathlib.Path(inner) / "t", level="fingerprint"))
    assert set(again.places) == set(made.places) and again.sketches[Place("large", 3)].tensor.shape == (5000,)
    assert all(again[place].shape == storable(tensor).shape for place, tensor in held.items())


@settings(max_examples=3)
@given(st.floats(0.5, 2.0), st.integers(1, 3))
def test_a_bundle_packed_again_says_the_same(scale, steps):
    with tempfile.TemporaryDirectory() as inner:
        home = pathlib.Path(inner)
        for role, factor in (("reference", 1.0), ("candidate", scale)):
            made = Trace(settings={"seed": 0})
            for step in range(steps):
                made.add(Event(Place("latents", step), torch.linspace(-1, 1, 3000).reshape(1, 3, 1000) * factor))
            made.save(home / role)
        (home / "c.yaml").write_text("reference: {trace: reference}\ncandidate: {trace: candidate}\n")
        bundle(home / "c.yaml", home / "b.zip")
        status = run(["diagnose", str(home / "c.yaml"), "--json"])
        assert run(["diagnose", str(home / "b.zip"), "--json"]) == status
