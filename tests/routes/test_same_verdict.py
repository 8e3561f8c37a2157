"""One faulty run, recorded through every route: the verdict is the same. Two faults: the sampler's shift, and the VAE's."""

import shutil
import sys

import pytest
import route_programs as programs
import torch
from route_programs import CALL, CASES, FAULTS

from whydiff.engine.files import compare_files
from whydiff.engine.study import study
from whydiff.evidence.case import make_case

CAUSES = ["shift-constant", "vae-shift-missing"]
FIRST = ("schedule", "sigmas", None)
REFERENCE = {"name": "diffusers", "live": {"entry": "sides.py:reference", "call": CALL}}
CANDIDATE = {"name": "port", "live": {"entry": "sides.py:port", "build": FAULTS, "call": CALL}}


def studied(reference, candidate):
    case = make_case({"reference": reference, "candidate": candidate})
    case.path = str(CASES / "routes.yaml")
    return study(case)


def told(verdict):
    first = verdict.first_divergence
    return verdict.verdict, (first["stage"], first["probe"], first["step"]), [cause.id for cause in verdict.causes], verdict.unexplained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("routes")


@pytest.fixture(scope="module")
def home(folder):
    return programs.home(folder / "home")


@pytest.fixture(scope="module")
def within(folder):
    """In one process; keeps the reference's run, with its noise floor, for the routes of files."""
    found = studied(REFERENCE, CANDIDATE)
    found.save_traces(folder / "within")
    return found.verdict


@pytest.fixture(scope="module")
def alone(home, folder):
    """What one process with the recorder in one file wrote: `full` and `fingerprint`."""
    programs.run(programs.ALONE, home, folder / "alone")
    return folder / "alone"


@pytest.fixture(scope="module")
def ranks(home, folder):
    programs.run(programs.SHARED_OUT, home, folder / "ranks", programs.RANKS)
    return folder / "ranks"


@pytest.fixture
def against(folder, within):
    """The verdict on a recording, held against the reference's."""
    return lambda trace: studied({"name": "diffusers", "trace": str(folder / "within" / "reference")}, {"name": "port", "trace": str(trace)}).verdict


def test_in_process(within):
    assert told(within) == ("different", FIRST, CAUSES, []), str(within)


def test_in_another_interpreter(within):
    elsewhere = CANDIDATE | {"live": CANDIDATE["live"] | {"python": sys.executable}}
    verdict = studied(REFERENCE, elsewhere).verdict
    assert told(verdict) == told(within)
    assert [cause.statement for cause in verdict.causes] == [cause.statement for cause in within.causes]


def test_by_the_recorder_in_one_file(against, alone, within):
    verdict = against(alone / "full")
    assert told(verdict) == told(within), str(verdict)


def test_by_fingerprints_alone(against, alone, within):
    """The schedule is small enough to be whole, so its cause is named. What the decoder receives is a sketch: it cannot be computed
    again from the reference's latents, so its difference counts as inherited from the schedule's, and no second cause is named."""
    verdict = against(alone / "fingerprint")
    assert told(verdict) == ("different", FIRST, CAUSES[:1], []), str(verdict)
    assert any("estimated from sketches" in note for note in verdict.notes)


def test_by_four_ranks(against, ranks, within):
    verdict = against(ranks)
    assert told(verdict) == told(within), str(verdict)
    assert any("sharded along axis 1 over 4 ranks, 1 of padding" in note for note in verdict.notes)
    assert any("replicated on 4 ranks" in note for note in verdict.notes)


def test_four_ranks_agree_with_the_one_process_that_has_the_same_faults(ranks, alone):
    verdict = studied({"trace": str(alone / "full")}, {"trace": str(ranks)}).verdict
    assert verdict.verdict in ("same", "within_noise"), str(verdict)
    assert verdict.compared["unpaired_reference"] == verdict.compared["unpaired_candidate"] == []
    assert compare_files(alone / "full", ranks).verdict == verdict.verdict


@pytest.mark.parametrize("repeated", [[1], []])
def test_a_shard_that_no_rank_holds_is_named(repeated, ranks, alone, tmp_path):
    shutil.copytree(ranks, tmp_path / "ranks")
    shutil.rmtree(tmp_path / "ranks" / "rank-2")
    if repeated:
        shutil.copytree(ranks / "rank-1", tmp_path / "ranks" / "rank-2")
    verdict = studied({"trace": str(alone / "full")}, {"trace": str(tmp_path / "ranks")}).verdict
    (cause,) = verdict.causes
    assert cause.id == "shard-missing" and (cause.probe, cause.step, cause.departs) == ("latents", 0, "candidate")
    assert cause.relation["missing"] == [2] and cause.relation["repeated"] == repeated


@pytest.mark.filterwarnings("ignore")
def test_with_an_onnx_decoder(within, tmp_path):
    pytest.importorskip("onnxruntime")
    from whydiff.evidence.sides.onnx_module import OnnxModule

    sys.path.insert(0, str(CASES))
    import sides

    class Decoder(torch.nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.vae = vae

        def forward(self, z):
            return self.vae.decode(z)

    port = sides.port(**FAULTS)
    z = torch.zeros(1, 4, CALL["height"] // 4, CALL["width"] // 4)
    torch.onnx.export(Decoder(port.vae).eval(), (z,), str(tmp_path / "decoder.onnx"), dynamo=False, input_names=["z"])
    port.vae = OnnxModule(tmp_path / "decoder.onnx", like=port.vae, method="decode")
    from whydiff import diagnose

    verdict = diagnose(reference=sides.reference(), candidate=port, call=CALL)
    assert told(verdict) == told(within), str(verdict)
