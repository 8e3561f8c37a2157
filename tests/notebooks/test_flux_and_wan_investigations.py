"""The FLUX and Wan notebooks reach their verdicts from what they are given: another input, another verdict."""

import pathlib

import nbformat
import papermill
import pytest

from whydiff.notebooks import own_kernel

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "investigations"
both = pytest.mark.parametrize("name", ["flux_fastvideo_vs_sglang", "wan22_expert_switch"])


def verdict_of(tmp_path, name: str, **parameters) -> str:
    """What the verdict cell prints when the notebook runs with these parameters."""
    out = tmp_path / f"{name}.ipynb"
    with own_kernel():
        papermill.execute_notebook(str(FOLDER / f"{name}.ipynb"), str(out), parameters, cwd=str(FOLDER), progress_bar=False,
                                   kernel_name="python3", execution_timeout=300)  # fmt: skip
    return printed(out)


def printed(path) -> str:
    [cell] = [c for c in nbformat.read(path, 4).cells if "keep_output" in c.metadata.get("tags", [])]
    return "".join(output.get("text", "") for output in cell.outputs)


@both
def test_the_story_is_told_in_short_cells_from_question_to_remedy(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    cells = notebook.cells
    assert "**" in cells[0].source and "?" in cells[0].source and "What to do next" in cells[-1].source
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in cells)
    assert 10 <= len(cells) <= 35 and "cccc" not in kinds
    assert all(len(c.source.splitlines()) <= 14 and "def " not in c.source for c in cells if c.cell_type == "code")
    assert all(not c.outputs for c in cells if c.cell_type == "code" and "keep_output" not in c.metadata.get("tags", []))
    assert printed(FOLDER / f"{name}.ipynb").startswith(f"{name}: different")


@pytest.mark.thorough
def test_had_the_spike_been_at_step_19_the_shift_would_have_been_the_one_that_was_meant(tmp_path):
    said = verdict_of(tmp_path, "wan22_expert_switch", tqdm_step=19, shown=21.0)
    assert said.startswith("wan22_expert_switch: same")
    assert "of the shifts configured (3, 5, 12) only 12 does" in said and "no path" not in said


@pytest.mark.thorough
def test_had_the_port_been_healthy_and_the_checks_real_the_notes_claims_would_hold(tmp_path):
    cases = "../../data/cases"
    said = verdict_of(tmp_path, "flux_fastvideo_vs_sglang", case=f"{cases}/flux_healthy.yaml",
                      noise_check=f"{cases}/flux_sampling_1280x720.yaml")  # fmt: skip
    assert said.startswith("flux_fastvideo_vs_sglang: same or within_noise")
    assert "holds: guidance is the same." in said and "holds: all stages match." in said
    assert "refuted: the initial noise is the same." in said and "refuted; its check was vacuous: both walk one schedule" in said
