"""How long the workbook takes headless: papermill for one notebook after the other, each with a fresh kernel, against whydiff.

    python tests/bench/headless.py [--case CASE] [--write]

Three ways, one after the other in one run: `papermill NOTEBOOK OUT -p case CASE` for each notebook, as a user would (each makes its
own diagnosis); the same with one stored study, which the first notebook makes; and `whydiff investigate CASE`, which does the
diagnosis, the notebooks and the report. `--write` puts the table into docs/performance.md.
"""  # fmt: skip

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from written import write_section

HOME = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": str(HOME / "lib")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", default=str(HOME / "data" / "cases" / "flux_port.yaml"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    case = str(pathlib.Path(asked.case).resolve())
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: seconds(way, case, pathlib.Path(folder) / str(i)) for i, (name, way) in enumerate(WAYS.items())}
    ours = rows["`whydiff investigate`: diagnosis, notebooks and report"]
    lines = ["| | seconds | times `investigate` |", "|---|---|---|"]
    lines += [f"| {name} | {taken:.0f} | {taken / ours:.1f} |" for name, taken in rows.items()]
    table = "\n".join([*lines, "", f"{os.cpu_count()} cores ({platform.machine()}), OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}; "
                       f"{len(notebooks())} notebooks of `{pathlib.Path(case).stem}`."])  # fmt: skip
    print(table)
    if asked.write:
        write_section("headless", table)


def notebooks() -> list[pathlib.Path]:
    """Those that need no file besides the case."""
    return [path for path in sorted((HOME / "notebooks").glob("*.ipynb")) if not path.stem.endswith("step_timing")]


def seconds(way, case: str, folder: pathlib.Path) -> float:
    folder.mkdir()
    start = time.perf_counter()
    way(case, folder)
    return time.perf_counter() - start


def papermill(path: pathlib.Path, folder: pathlib.Path, **parameters) -> None:
    words = [word for key, value in parameters.items() for word in ("-p", key, value)]
    subprocess.run([sys.executable, "-m", "papermill", path.name, str(folder / path.name), *words, "--no-progress-bar"], check=True,
                   cwd=path.parent, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def each_on_its_own(case: str, folder: pathlib.Path) -> None:
    for path in notebooks():
        papermill(path, folder, case=case, out=str(folder))


def with_one_study(case: str, folder: pathlib.Path) -> None:
    for path in notebooks():
        papermill(path, folder, case=case, out=str(folder), study_from=str(folder / "study"))


def investigate(case: str, folder: pathlib.Path) -> None:
    command = [sys.executable, "-m", "whydiff.cli", "investigate", case, "--out", str(folder / "report")]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    verdict = json.loads((folder / "report" / "verdict.json").read_text())
    assert done.returncode in (0, 1) and len(verdict["audits"]) == len(notebooks())


WAYS = {"papermill, fresh kernels, each notebook with its own diagnosis": each_on_its_own,
        "papermill, fresh kernels, the first notebook's diagnosis stored for the others": with_one_study,
        "`whydiff investigate`: diagnosis, notebooks and report": investigate}  # fmt: skip

if __name__ == "__main__":
    main()
