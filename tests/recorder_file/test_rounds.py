"""Repair and continue by files: each round is a process of its own, and the next one is told by the last."""

import json
import re
import textwrap

import pytest
from sides_recorded import SIDES

from whydiff.engine.api import study
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case

FLUX = f'''
import json, sys, torch
sys.path.insert(0, {str(SIDES.parent)!r})
import sides
call = dict(prompt="two blue squares on black", height=48, width=64, num_inference_steps=3, max_sequence_length=16)
if sys.argv[1] == "reference":
    sides.reference()(generator=torch.Generator().manual_seed(0), **call)
else:
    sides.port(**json.loads(sys.argv[2]))(seed=0, **call)
'''


def diagnosed(folder, reference="reference", candidate="candidate", injected=()):
    case = make_case({"reference": {"trace": reference}, "candidate": {"trace": candidate, "injected": list(injected)}})
    case.path = str(folder / "case.yaml")
    return study(case).verdict


def advised(found):
    """The variables that the verdict says to set for the next run."""
    line = next((note for note in found.notes if note.startswith("next: ")), "")
    return {name: value.strip("'") for name, value in re.findall(r"(WHYDIFF_INJECT(?:_AT)?)=('[^']*'|\S+)", line)}


@pytest.fixture
def recorded(program, home, tmp_path):
    """`recorded(folder, argument, **variables)` runs the sampler of conftest.py; a reference and a candidate are there."""

    def run(out, *arguments, **variables):
        program("-m", "whydiff_tap", home / "sampler.py", *arguments, WHYDIFF_RECORD=out, **variables)

    run("reference", 1.0)
    run("candidate", 3.0)
    return run


def test_rounds_of_files_lead_to_the_place_and_say_when_it_is_repaired(recorded, tmp_path):
    found = diagnosed(tmp_path)
    assert found.first_divergence["probe"] == "sigmas" and advised(found) == {"WHYDIFF_INJECT": "reference"}
    recorded("second", 3.0, **advised(found))
    found = diagnosed(tmp_path, injected=["second"])
    assert found.first_divergence["probe"] == "sigmas" and len(found.causes) + len(found.unexplained) == 1
    assert advised(found) == {"WHYDIFF_INJECT": "reference", "WHYDIFF_INJECT_AT": "sigmas"}
    recorded("third", 3.0, **advised(found))
    found = diagnosed(tmp_path, injected=["second", "third"])
    assert "repaired: with the reference's sigmas put in (third), nothing else differs" in found.notes and not advised(found)
    assert all(cause.image_effect == pytest.approx(1.0) for cause in found.causes)


def test_a_round_that_repairs_another_place_says_what_remains(recorded, tmp_path):
    recorded("second", 3.0, WHYDIFF_INJECT="reference", WHYDIFF_INJECT_AT="latents@0")
    found = diagnosed(tmp_path, injected=["second"])
    assert any("places still differ, first sigmas" in note and "another cause remains there" in note for note in found.notes)


def test_a_round_on_an_older_recording_of_the_reference_is_told(recorded, tmp_path):
    recorded("second", 3.0, WHYDIFF_INJECT="reference")
    lines = tmp_path / "reference" / "trace.jsonl"
    lines.write_text(lines.read_text() + "\n")
    assert any("not the reference's trace as it is now" in note for note in diagnosed(tmp_path, injected=["second"]).notes)


def test_a_trace_into_which_nothing_was_put_is_no_round(recorded, tmp_path):
    with pytest.raises(Trouble, match="candidate.injected: candidate says of no tensor"):
        diagnosed(tmp_path, injected=["candidate"])


@pytest.mark.slow
@pytest.mark.thorough
def test_two_faults_of_the_port_are_both_named_and_repaired_in_rounds_across_processes(program, tmp_path):
    (tmp_path / "flux.py").write_text(textwrap.dedent(FLUX))
    build = json.dumps({"flow_shift": 3.0, "apply_vae_shift_factor": False})

    def record(out, *arguments, **variables):
        program("-m", "whydiff_tap", "flux.py", *arguments, WHYDIFF_RECORD=out, path=[SIDES.parents[2] / "lib"], **variables)

    record("reference", "reference")
    record("candidate", "port", build)
    found = diagnosed(tmp_path)
    assert [cause.id for cause in found.causes] == ["shift-constant", "vae-shift-missing"]  # from the recordings alone
    record("second", "port", build, **advised(found))
    found = diagnosed(tmp_path, injected=["second"])
    assert [cause.id for cause in found.causes] == ["shift-constant", "vae-shift-missing"] and not found.unexplained
    record("third", "port", build, **advised(found))
    assert any(note.startswith("repaired: ") for note in diagnosed(tmp_path, injected=["second", "third"]).notes)
