"""The notebooks on LongCat and Qwen-Image as they are committed."""

import ast
import pathlib

import nbformat
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "investigations"
both = pytest.mark.parametrize("name", ["longcat_native_vs_original", "qwen_image_comfyui_vs_microservice"])


def cells(name, kind="code"):
    return [cell for cell in nbformat.read(FOLDER / f"{name}.ipynb", 4).cells if cell.cell_type == kind]


@both
def test_it_asks_first_and_says_what_to_do_last(name):
    prose = cells(name, "markdown")
    assert "?" in prose[0].source and "**" in prose[0].source and "What to do next" in prose[-1].source
    assert "Not known" in prose[-1].source


@both
def test_code_is_short_and_defines_nothing(name):
    for cell in cells(name):
        assert len(cell.source.splitlines()) <= 14
        assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(ast.parse(cell.source)))


@both
def test_only_the_verdict_keeps_its_output(name):
    for cell in cells(name):
        kept = "keep_output" in cell.metadata.get("tags", [])
        assert bool(cell.outputs) == kept
        if kept:
            [output] = cell.outputs
            assert cell.source.startswith("# NBVAL_CHECK_OUTPUT\n") and output.text.startswith(f"{name}: ")


@both
def test_links_lead_to_files_that_exist(name):
    import re

    for cell in cells(name, "markdown"):
        for target in re.findall(r"\]\(([^)#]+\.ipynb)\)", cell.source):
            assert (FOLDER / target).exists(), target


@pytest.mark.thorough
@pytest.mark.parametrize("name, changed, before, after", [
    ("longcat_native_vs_original", {"case": "../../data/cases/longcat_newest.yaml", "steps": 16, "faults": ["no RoPE", "sign flipped"], "seeds": 1,
                                    "blocks": 2}, "activation-function", "catch 0 of 2 planted faults"),
    ("qwen_image_comfyui_vs_microservice", {"mean_abs": "1.128", "max_abs": "6.6", "mean_rel": "8.0", "draws": 4, "weights": 1, "cfg": 2.5},
     "two independent unit normals are excluded", "two independent unit normals are possible"),
])  # fmt: skip
def test_another_input_gives_another_verdict(name, changed, before, after, tmp_path):
    import papermill

    from whydiff.notebooks import own_kernel

    [kept] = [cell for cell in cells(name) if "keep_output" in cell.metadata.get("tags", [])]
    with own_kernel():
        run = papermill.execute_notebook(str(FOLDER / f"{name}.ipynb"), str(tmp_path / "out.ipynb"), parameters=changed, cwd=str(FOLDER),
                                         kernel_name="python3", progress_bar=False)  # fmt: skip
    [cell] = [cell for cell in run.cells if "keep_output" in cell.metadata.get("tags", [])]
    text = cell.outputs[0]["text"]
    assert before in kept.outputs[0]["text"] and after not in kept.outputs[0]["text"]
    assert after in text and before not in text
