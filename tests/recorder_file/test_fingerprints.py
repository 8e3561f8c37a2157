"""Two machines that exchange fingerprints alone find the same first divergence as with all tensors."""

import json
import shutil

import pytest
import torch
from sides_recorded import record, verdict

from whydiff.cli import run
from whydiff.engine.sketched import WORDS
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

FAULTS = {"healthy": {}, "rope": {"apply_rope": False}, "guidance": {"guidance_embed_scale": 0.001}, "schedule": {"mu_token_factor": 4},
          "shift": {"apply_vae_shift_factor": False}, "size": {"width_first": True}, "noise": {"generator_device": "cuda"}}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("recorded")
    record(home, "reference", "reference", floor=True)
    for name, build in FAULTS.items():
        record(home, name, **build)
    return home


def first(found):
    place = found.first_divergence or {}
    return found.verdict, *(place.get(key) for key in ("stage", "probe", "step", "module"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_divergence_is_at_the_same_place_as_with_all_tensors(folder, fault):
    whole = verdict(folder, "reference", fault)
    for reference, candidate in (("reference_prints", f"{fault}_prints"), ("reference", f"{fault}_prints"), ("reference_prints", fault)):
        found = verdict(folder, reference, candidate)
        assert first(found) == first(whole)
        difference, true = ((v.first_divergence or {}).get("difference") for v in (found, whole))
        assert difference == pytest.approx(true, rel=0.05) if true else difference == true
        assert any(WORDS in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "cause"), [("guidance", "guidance-times-1000"), ("schedule", "dynamic-shift-seq-len"),
                                               ("size", "height-width-swapped")])
def test_causes_that_small_tensors_show_are_named(folder, fault, cause):
    assert [c.id for c in verdict(folder, "reference_prints", f"{fault}_prints").causes] == [cause]


@pytest.mark.slow
def test_what_is_not_named_is_described_as_far_as_sketches_show_it(folder):
    (entry,) = verdict(folder, "reference_prints", "shift_prints").unexplained
    assert entry["why"].startswith("candidate = reference - 0.488") and WORDS in entry["why"]


def two(tmp_path, mine, theirs, floor=None, component=None):
    for name, tensor in (("a", mine), ("b", theirs)):
        trace = Trace(floor=floor)
        trace.add(Event(Place("latents", 0), tensor, component=component))
        trace.save(tmp_path / name, "fingerprint")
    return tmp_path / "a", tmp_path / "b"


def compared(capsys, a, b):
    status = run(["compare", str(a), str(b), "--json"])
    return status, json.loads(capsys.readouterr().out)["tensors"][0]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_equal_hashes_mean_equal_bits(tmp_path, capsys):
    x = normal(1, 3000)
    status, line = compared(capsys, *two(tmp_path, x, x.clone()))
    assert status == 0 and line["verdict"] == "same" and line["difference"] == 0 and line["figures"]["estimated"] is None


def test_the_floor_of_a_trace_holds_for_sketches(tmp_path, capsys):
    x = normal(1, 3000)
    a, b = two(tmp_path, x, x + 1e-4 * normal(1, 3000, seed=1), floor={"latents": 5e-5})
    assert compared(capsys, a, b)[1]["verdict"] == "within_noise"
    shutil.rmtree(a), shutil.rmtree(b)
    a, b = two(tmp_path, x, x + 1e-3 * normal(1, 3000, seed=1), floor={"latents": 5e-5})
    status, line = compared(capsys, a, b)
    assert status == 1 and line["verdict"] == "different" and line["difference"] == pytest.approx(1e-3, rel=0.06)


def test_a_trace_may_be_a_zip_or_a_tar(tmp_path, capsys):
    a, b = two(tmp_path, normal(1, 3000), normal(1, 3000, seed=1))
    for kind in ("zip", "tar", "gztar"):
        packed = shutil.make_archive(str(tmp_path / kind), kind, root_dir=b.parent, base_dir=b.name)
        assert compared(capsys, a, packed)[1] == compared(capsys, a, b)[1]
    (tmp_path / "broken.zip").write_bytes(b"PK")
    assert run(["compare", str(a), str(tmp_path / "broken.zip")]) == 2


def test_values_that_are_not_finite_and_other_shapes_are_told(tmp_path, capsys):
    x, broken = normal(1, 3000), normal(1, 3000)
    broken[0, 5] = torch.nan
    line = compared(capsys, *two(tmp_path / "n", x, broken))[1]
    assert line["verdict"] == "different" and line["figures"]["why"] == "candidate's values are not finite"
    line = compared(capsys, *two(tmp_path / "s", x, normal(1, 3001)))[1]
    assert line["figures"]["why"].startswith("shapes differ")
    line = compared(capsys, *two(tmp_path / "r", x, x.reshape(3, 1000).t().contiguous()))[1]
    assert line["verdict"] == "same"  # the same values in another layout


def test_a_sketch_of_another_version_is_refused_with_its_line(tmp_path, capsys):
    a, b = two(tmp_path, normal(1, 3000), normal(1, 3000))
    lines = (b / "trace.jsonl").read_text().replace('"version": 1', '"version": 7')
    (b / "trace.jsonl").write_text(lines)
    assert run(["compare", str(a), str(b)]) == 2
    assert "line 2: the sketch of latents, step 0 cannot be read" in capsys.readouterr().err


def test_a_fingerprint_that_was_read_can_be_saved_again(tmp_path):
    a, _ = two(tmp_path, normal(1, 3000), normal(1, 3000))
    again = read_trace(read_trace(a).save(tmp_path / "again"))
    assert again.sketches[Place("latents", 0)].sha256 == read_trace(a).sketches[Place("latents", 0)].sha256
    assert torch.equal(again.sketches[Place("latents", 0)].sketch.values, read_trace(a).sketches[Place("latents", 0)].sketch.values)


@pytest.mark.parametrize("level", ["full", "fingerprint"])
def test_the_first_recorded_module_that_departs_is_named_where_the_network_s_inputs_agree(tmp_path, level):
    for name, error in (("a", 0.0), ("b", 0.1)):
        trace, x = Trace(), normal(1, 3000)
        late = x + error * normal(1, 3000, seed=1)
        seen = [("latent_model_input", None, x), ("modules", "transformer/first", x), ("modules", "transformer/second", late),
                ("modules", "transformer/third", late), ("noise_pred_text", None, late)]  # fmt: skip
        for step in range(2):
            for probe, module, value in seen:
                trace.add(Event(Place(probe, step, module=module), value, component="transformer"))
        trace.save(tmp_path / name, level)
    found = verdict(tmp_path, "a", "b")
    assert (found.first_divergence["probe"], found.first_divergence["step"]) == ("noise_pred_text", 0)
    assert found.first_divergence["module"] == found.unexplained[0]["module"] == "transformer/second"
