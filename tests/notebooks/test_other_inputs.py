"""The Waypoint and timing notebooks reach their verdicts from what they are given: another input, another verdict."""

import pathlib

import nbformat
import papermill
import pytest
import yaml

from whydiff.notebooks import own_kernel

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"


def verdict_of(tmp_path, name: str, **parameters) -> str:
    """What the verdict cell prints when the notebook runs with these parameters."""
    path, out = FOLDER / f"{name}.ipynb", tmp_path / "out.ipynb"
    with own_kernel():
        papermill.execute_notebook(str(path), str(out), parameters, cwd=str(path.parent), progress_bar=False, kernel_name="python3",
                                   execution_timeout=300)  # fmt: skip
    return printed(out)


def printed(path) -> str:
    [cell] = [c for c in nbformat.read(path, 4).cells if "keep_output" in c.metadata.get("tags", [])]
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.thorough
def test_had_the_script_kept_its_frames_its_drift_would_have_been_a_question(tmp_path):
    builds, alone = tmp_path / "builds.yaml", tmp_path / "switches.yaml"
    builds.write_text(yaml.safe_dump({"the note's script": {"like": "official", "text_encoder": "t5"}, "port of the note": {"like": "port"}}))
    alone.write_text(yaml.safe_dump({"noise seeded per frame": {"noise": "frame"}, "another scale": {"vae_scale": 1.3}}))
    said = verdict_of(tmp_path, "investigations/waypoint_official_vs_fastvideo", builds=str(builds), switches_file=str(alone))
    stored = printed(FOLDER / "investigations" / "waypoint_official_vs_fastvideo.ipynb")
    assert "cannot drift" in stored and "cannot drift" not in said
    assert "never: " in stored and "never: " not in said
    assert "cannot blur: equal once both have one noise: noise seeded per frame." in said and "can blur: another scale." in said
    assert "from frame 0 on: another scale." in said


@pytest.mark.thorough
def test_two_logs_with_the_spike_at_the_same_step_differ_in_nothing(tmp_path):
    log = tmp_path / "seconds.txt"
    log.write_text("\n".join(["60"] + ["20.1", "20.0"] * 8 + ["20.2", "49.0"] + ["20.0", "20.1"] * 4) + "\n")
    said = verdict_of(tmp_path, "10_step_timing", log=str(log), log_reference=str(log))
    assert printed(FOLDER / "10_step_timing.ipynb").startswith("step_timing: different")
    assert said.startswith("step_timing: same or within_noise") and "the same steps stand out in both logs: 18" in said
