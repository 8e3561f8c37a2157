"""The notebooks as they are committed: one anatomy, constants as parameters, no code that belongs in the library."""

import ast
import pathlib

import nbformat
import pytest

from whydiff.audits.table import AUDITS

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, 4)


def code(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path, tag):
    return [cell for cell in code(path) if tag in cell.metadata.get("tags", [])]


def test_there_is_one_notebook_for_each_audit():
    assert [path.stem for path in PATHS] == [audit.notebook for audit in AUDITS]


@every_notebook
def test_a_notebook_is_valid_and_runs_on_python3(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert 10 <= len(notebook.cells) <= 35


@every_notebook
def test_the_question_comes_first_and_what_to_do_next_last(path):
    cells = read(path).cells
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ") and "**" in cells[0].source and "?" in cells[0].source
    assert "What to do next" in cells[-1].source


@every_notebook
def test_parameters_are_typed_constants_with_a_comment(path):
    [cell] = tagged(path, "parameters")
    for line, node in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name)
        ast.literal_eval(node.value)
        assert "  # " in line
    names = [node.target.id for node in ast.parse(cell.source).body]
    assert names[:3] == ["case", "out", "study_from"]


@every_notebook
def test_no_function_and_no_class_is_defined(path):
    for cell in code(path):
        assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(ast.parse(cell.source)))


@every_notebook
def test_cells_are_short_and_code_is_explained(path):
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in read(path).cells)
    assert "ccc" not in kinds
    assert all(len(cell.source.splitlines()) <= 14 for cell in code(path))


@every_notebook
def test_only_the_verdict_keeps_its_output(path):
    [verdict] = tagged(path, "keep_output")
    assert verdict.source.startswith("# NBVAL_CHECK_OUTPUT\n")
    assert verdict.execution_count is not None  # nbval compares only cells that were run
    [output] = verdict.outputs
    assert output.text.startswith(f"{path.stem[3:]}: ")
    for cell in code(path):
        if cell is not verdict and "keep_output" not in cell.metadata.get("tags", []):
            assert not cell.outputs and cell.execution_count is None


@every_notebook
def test_links_lead_to_files_that_exist(path):
    import re

    for cell in read(path).cells:
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source) if cell.cell_type == "markdown" else []:
            assert target.startswith("http") or (FOLDER / target).exists(), target
