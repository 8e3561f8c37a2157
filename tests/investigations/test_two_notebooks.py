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
