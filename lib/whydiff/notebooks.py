"""The workbook's notebooks: which there are, which parameters they declare, and running them strictly through papermill.

papermill only warns about unknown parameters, turns a tuple or a path into a string, and marks the cells of a killed
kernel "completed": all three are caught here.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from whydiff.errors import Trouble, did_you_mean
from whydiff.kernels.warm import FRESH
from whydiff.workers import Worker, run_tasks


@dataclasses.dataclass(frozen=True)
class Notebook:
    """A notebook of the workbook. `name` has no number: `04_schedule_math.ipynb` is `schedule_math`."""

    path: pathlib.Path

    @property
    def name(self) -> str:
        return re.sub(r"^\d+[_-]", "", self.path.stem)

    def code(self) -> list[dict]:
        """The code cells, as the file has them."""
        try:
            return [cell for cell in json.loads(self.path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        except (OSError, ValueError, KeyError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> Trouble:
        return Trouble(f"{self.path} is not a notebook that can be read ({type(error).__name__}: {error}).")

    def parameters(self) -> list[str]:
        """The names assigned in the cell tagged `parameters`, read as code: any annotation will do."""
        cell = next((c for c in self.code() if "parameters" in c.get("metadata", {}).get("tags", [])), None)
        try:
            tree = ast.parse("".join(cell["source"])) if cell else None
        except SyntaxError as error:
            raise self._unreadable(error) from None
        if tree is None:
            raise Trouble(f"{self.path} has no cell tagged 'parameters'.")
        targets = [t for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)
                   for t in (node.targets if isinstance(node, ast.Assign) else [node.target])]  # fmt: skip
        return [target.id for target in targets if isinstance(target, ast.Name)]


def workbook(folder=None) -> list[Notebook]:
    """The notebooks in their order: `notebooks/` of the checkout, found by walking up from the package."""
    if folder is None:
        parents = pathlib.Path(__file__).resolve().parents
        folder = next((p / "notebooks" for p in parents if any((p / "notebooks").glob("*.ipynb"))), None)
        if folder is None:
            raise Trouble("no notebooks were found above the package. Run from a checkout of whydiff (pip install -e .); "
                          "`whydiff diagnose` needs none.")  # fmt: skip
    return [Notebook(path) for path in sorted(pathlib.Path(folder).glob("*.ipynb"))]


def choose(only: list[str], folder=None) -> list[Notebook]:
    """The notebooks that `only` names, with or without number or suffix; all of them for an empty list."""
    all_of_them = workbook(folder)
    wanted = [pathlib.PurePath(name).name.removesuffix(".ipynb") for name in only]
    known = {key: notebook for notebook in all_of_them for key in (notebook.path.stem, notebook.name)}
    for name in wanted:
        if name not in known:
            raise Trouble(f"--only {name}: no such notebook.{did_you_mean(name, known)} "
                          f"Known: {', '.join(notebook.name for notebook in all_of_them)}.")  # fmt: skip
    chosen = {known[name] for name in wanted}
    return [notebook for notebook in all_of_them if not wanted or notebook in chosen]


def check_parameters(notebooks: list[Notebook], given: dict[str, Any], reserved=()) -> dict[str, Any]:
    """`given`, when each name is declared by at least one of the notebooks and each value survives the way there."""
    declared = {name for notebook in notebooks for name in notebook.parameters()} - set(reserved)
    for name, value in given.items():
        if name in reserved:
            raise Trouble(f"-p {name}: whydiff itself says what {name} is; use CASE, --out or --set.")
        if name not in declared:
            where = "this notebook" if len(notebooks) == 1 else "any of these notebooks"
            raise Trouble(f"-p {name}: not a parameter of {where}.{did_you_mean(name, declared)} "
                          f"Known: {', '.join(sorted(declared)) or 'none'}.")  # fmt: skip
        _plain(value, f"-p {name}")
    return given


def _plain(value, where: str) -> None:
    """Raise Trouble for what papermill would hand to the notebook as a string."""
    if value is None or isinstance(value, (bool, str)) or type(value) is int or (type(value) is float and math.isfinite(value)):
        return
    if type(value) is list:
        for i, item in enumerate(value):
            _plain(item, f"{where}[{i}]")
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise Trouble(f"{where}: the key {key!r} is not a string.")
            _plain(item, f"{where}.{key}")
    else:
        raise Trouble(f"{where}: a {type(value).__name__} cannot be handed to a notebook; use a number, word, list or mapping.")


def run_all(notebooks: list[Notebook], folder: pathlib.Path, ours: dict[str, Any], given: dict[str, Any], *, workers: list[Worker],
            timeout: int = 1800, said: Callable[[str], None] = lambda text: None) -> list[str]:  # fmt: skip
    """Run notebooks, one on each worker at a time, each with those parameters that it declares. One line for each failure."""
    folder.mkdir(parents=True, exist_ok=True)
    # With several workers the longest come first, told by their cells, so that none of them is waited for alone at the end.
    order = sorted(notebooks, key=lambda notebook: -len(notebook.code())) if len(workers) > 1 else notebooks
    tasks = []
    for notebook in order:
        declared = notebook.parameters()
        tasks.append([str(notebook.path), str(folder), {k: v for k, v in (ours | given).items() if k in declared}, timeout])

    def began(i: int) -> None:
        said(f"notebook {i + 1} of {len(tasks)}: {order[i].path.stem}")

    answers = dict(zip(order, run_tasks(tasks, workers, began)))
    return [answers[notebook] for notebook in notebooks if answers[notebook]]


def run_one(path: str, folder: str, parameters: dict[str, Any], timeout: int) -> str | None:
    """Run one notebook in its own folder; None, or a line that says which cell failed and how.

    Cells are named as Jupyter shows them in the executed notebook, `[4]`: the fourth code cell.
    """
    import logging

    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    source, target = pathlib.Path(path), pathlib.Path(folder) / pathlib.Path(path).name
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(str(source), str(target), parameters=parameters, cwd=str(source.parent), kernel_name="python3",
                                   execution_timeout=timeout, progress_bar=False)  # fmt: skip
    except papermill.PapermillExecutionError as error:
        what = f"{error.ename}: {error.evalue}" if error.evalue else str(error.ename)
        return f"{source.name}, cell [{error.exec_count}]: {' '.join(what.split())[:400]}"
    except CellTimeoutError:
        return f"{source.name}{_running_cell(target)}: timeout, a cell took longer than {timeout} s (--timeout allows more)"
    except DeadKernelError:
        return f"{source.name}{_running_cell(target)}: the kernel died (killed, or out of memory)"
    with contextlib.suppress(Exception):  # so that JupyterLab trusts it on this machine; nothing depends on it
        _sign(target)
    return None


def _running_cell(target: pathlib.Path) -> str:
    """`, cell [3]`: the last code cell that had begun, as far as the autosaved notebook knows."""
    with contextlib.suppress(Exception):
        cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        begun = [i for i, cell in enumerate(code, 1) if cell["metadata"].get("papermill", {}).get("start_time")]
        return f", cell [{begun[-1]}]" if begun else ""
    return ""


def _sign(path: pathlib.Path) -> None:
    import nbformat
    from nbformat.sign import NotebookNotary

    NotebookNotary().sign(nbformat.read(path, 4))


@contextlib.contextmanager
def own_kernel() -> Iterator[Callable[[list[str]], None]]:
    """While the context lasts, the kernel `python3` is the running interpreter, whatever else is installed.

    Its value sets another command for starting it, as `kernel.json` has it.
    """
    with tempfile.TemporaryDirectory(prefix="whydiff-kernel-") as folder:
        spec = pathlib.Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)

        def use(argv: list[str]) -> None:
            spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3 (whydiff)", "language": "python"}))

        use(FRESH)
        changed = {"JUPYTER_PATH": os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")])),
                   "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # fmt: skip
        before = {key: os.environ.get(key) for key in changed}
        os.environ.update(changed)
        try:
            yield use
        finally:
            for key, value in before.items():
                os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
