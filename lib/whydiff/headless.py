"""Notebooks without a browser: the diagnosis once, then every notebook over it through papermill, then the report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from whydiff.errors import Trouble
from whydiff.evidence.traces.new_folder import take_place
from whydiff.kernels.warm import kernel_command, warming, way_of
from whydiff.notebooks import Notebook, check_parameters, choose, own_kernel, run_all
from whydiff.verdict import Verdict
from whydiff.workers import started

STUDY = "study"  # DIR/study: what the notebooks read instead of running the diagnosis again
MOST_JOBS = 4  # unless more are asked for: each kernel may load both sides, and ten notebooks are soon done


@dataclasses.dataclass(frozen=True)
class Investigation:
    """What was found and where it lies. `failures`: one line for each notebook that did not run to its end."""

    verdict: Verdict
    folder: pathlib.Path
    report: pathlib.Path
    notebooks: list[pathlib.Path]
    failures: list[str]
    expect: Any = None
    study: Any = None


def investigate(case_path, out=None, parameters: dict[str, Any] | None = None, overrides: dict[str, Any] | None = None,
                only: list[str] = (), jobs: int | None = None, said: Callable[[str], None] = lambda text: None,
                timeout: int = 1800, folder=None, kernels: str | None = None, store=None) -> Investigation:  # fmt: skip
    """Diagnose a case once, run the notebooks over it, and write verdict, report, notebooks and traces into `out`.

    `out` is `reports/<case>/` unless given; what is there stays until all is written. `parameters` go to the notebooks
    that declare them, `only` are notebook names with or without number, `folder` holds the notebooks (the checkout's).
    `jobs` notebooks run at a time: unless given, as many as there are cores, and as memory holds both sides; `kernels` is
    "fork", "fresh" or "auto" (the variable WHYDIFF_KERNELS, else forked where that works). `store` is as for `study`.
    Bad input raises Trouble before anything runs; a notebook that fails is reported in `failures`.
    """
    from whydiff.evidence.case import load_case

    case = load_case(case_path, overrides)
    case.refuse_missing()
    chosen = choose(only, folder)
    given = check_parameters(chosen, dict(parameters or {}), reserved=("case", "out", "study_from"))
    chosen, given = with_their_files(chosen, given, bool(only), said)
    way_of(kernels)
    final = pathlib.Path(out) if out else pathlib.Path("reports") / case.name
    # What runs the notebooks starts now, and imports while the diagnosis runs.
    with published(final) as draft, own_kernel() as use_kernel, warming(kernels) as warm, started(_jobs(jobs, chosen)) as workers:

        def run(study, notebooks: pathlib.Path, ours: dict[str, Any]) -> list[str]:
            fitting = workers if jobs else workers[: _fitting(study.lab)]
            command, reason = kernel_command(warm, kernels)
            use_kernel(command)
            if reason:
                said(f"kernels are started afresh: {reason}")
            return run_all(chosen, notebooks, ours, given, workers=fitting, timeout=timeout, said=said)

        study, failures = _fill(case, draft, final.absolute(), chosen, given, bool(overrides), run, said, store)
    notebooks = [final / "notebooks" / notebook.path.name for notebook in chosen]
    return Investigation(study.verdict, final, final / "report.html", [n for n in notebooks if n.exists()], failures, case.expect,
                         study)  # fmt: skip


def _jobs(asked: int | None, chosen: list[Notebook]) -> int:
    """How many notebooks may run at a time, as far as can be said before the sides are loaded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(asked or min(cores, MOST_JOBS), len(chosen))


def _fitting(lab) -> int:
    """How many kernels may load both sides at a time: at least one, and one alone where both do not fit."""
    from whydiff.evidence.sides.memory import room_for

    return 1 if lab.apart else max(1, room_for(side for side in lab.sides.values() if side is not None))


def _fill(case, draft: pathlib.Path, final: pathlib.Path, chosen: list[Notebook], given, overridden: bool, run, said, store):
    from whydiff.audits.table import AUDITS
    from whydiff.engine.api import study as make_study
    from whydiff.report.html import write_report

    study = make_study(case, progress=said, store=store)
    study.save(draft)
    # Notebooks read an effective case file where `--set` changed something, and the user's own file where not.
    effective = effective_case(case, draft) if overridden else pathlib.Path(case.path)
    # A notebook's own default for a file is an example to read it by, and nobody else's evidence.
    ours = {name: "" for audit in AUDITS for name in audit.files} | {"case": str(effective), "out": str(draft)}
    if _store_study(study, draft / STUDY):
        ours["study_from"] = str(draft / STUDY)
    failures = run(study, draft / "notebooks", ours)
    _repoint(draft, final)
    study.verdict.audits = read_audits(draft, chosen)
    study.verdict.notes += [f"{failure}." for failure in failures]
    study.verdict.save(draft)
    said("writing the report")
    write_report(study, draft / "report.html", notebooks=[f"notebooks/{notebook.path.name}" for notebook in chosen],
                 command=_command(case, final, given, overridden), kept=read_kept(draft, chosen))  # fmt: skip
    return study, failures


def with_their_files(chosen: list[Notebook], given: dict[str, Any], asked: bool, said) -> tuple[list[Notebook], dict[str, Any]]:
    """The notebooks whose question can be asked, and `given` with absolute paths for the files that they read.

    A notebook about evidence that no case holds (a log of step times) is left out with one line where its file is not
    given; `asked`: with Trouble, for somebody asked for it by name. Trouble, too, for a file that is not there.
    """
    from whydiff.audits.table import BY_NAME

    kept, found = [], dict(given)
    for notebook in chosen:
        files = BY_NAME[notebook.name].files if notebook.name in BY_NAME else ()
        if files and not found.get(files[0]):
            words = f"needs a file: -p {files[0]}=FILE"
            if asked:
                raise Trouble(f"--only {notebook.name}: this notebook {words}.")
            said(f"{notebook.path.stem} is skipped: it {words}")
            continue
        kept.append(notebook)
        for name in files:
            path = pathlib.Path(str(found.get(name) or "."))
            if found.get(name) and not path.is_file():
                raise Trouble(f"-p {name}={path}: there is no such file.")
            found |= {name: str(path.absolute())} if found.get(name) else {}
    return kept, found


def read_audits(folder: pathlib.Path, chosen: list[Notebook]) -> list[dict]:
    """What each notebook wrote under `audits/`, in the notebooks' order, as verdict.json lists it."""
    found = []
    for notebook in chosen:
        path = folder / "audits" / f"{notebook.name}.json"
        if path.is_file():
            audit = json.loads(path.read_text(encoding="utf-8"))
            found.append({"name": audit["name"], "verdict": audit["verdict"], "findings": list(audit["findings"])})
    return found


def read_kept(folder: pathlib.Path, chosen: list[Notebook]) -> dict[str, dict]:
    """What notebooks stored beside their findings, by audit."""
    paths = {notebook.name: folder / "audits" / f"{notebook.name}.json" for notebook in chosen}
    return {name: json.loads(path.read_text(encoding="utf-8")).get("kept", {}) for name, path in paths.items() if path.is_file()}


@contextlib.contextmanager
def published(target) -> Iterator[pathlib.Path]:
    """A new folder to write into, which takes the place of `target` when all went well; else `target` stays as it was."""
    target = pathlib.Path(target).absolute()
    if target.exists() and not target.is_dir():
        raise Trouble(f"{target} is a file; --out names a folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / "verdict.json").is_file():
        raise Trouble(f"{target} holds something that whydiff did not write. Choose another --out, or an empty folder.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    except OSError as error:
        raise Trouble(f"{target} cannot be written: {error.strerror}. Choose another --out.") from None
    try:
        yield draft
        take_place(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def effective_case(case, folder: pathlib.Path) -> pathlib.Path:
    """The case with its overrides, as `folder/<case>.yaml`; relative paths become absolute ones."""
    from ruamel.yaml import YAML

    data = case.model_dump(mode="json", exclude_defaults=True)
    for role, side in case.sides().items():
        entry = data[role]
        for key in ("trace", "image"):
            if entry.get(key):
                entry[key] = str(case.resolve(entry[key]))
        if side.live:
            file, _, function = side.live.entry.rpartition(":")
            entry["live"]["entry"] = f"{case.resolve(file)}:{function}"
            if side.live.python:
                entry["live"]["python"] = str(case.interpreter(side.live.python))
    path = folder / f"{case.name}.yaml"
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)
    return path


def _store_study(study, folder: pathlib.Path) -> bool:
    """Store the study for the notebooks; False where it cannot be (then each notebook diagnoses for itself)."""
    try:
        from whydiff.engine.store import save_study
    except ImportError:
        return False
    save_study(study, folder)
    return True


def _repoint(draft: pathlib.Path, final: pathlib.Path) -> None:
    """Notebooks ran on the draft folder; what they name is the folder it becomes."""
    for path in [*(draft / "notebooks").glob("*.ipynb"), *(draft / "audits").glob("*.json")]:
        text = path.read_text(encoding="utf-8")
        if str(draft) in text:
            path.write_text(text.replace(str(draft), str(final)), encoding="utf-8")


def _command(case, final: pathlib.Path, given: dict, overridden: bool) -> str:
    """The command line that repeats this report."""
    import shlex

    words = ["whydiff", "investigate", _short(final / f"{case.name}.yaml" if overridden else pathlib.Path(case.path))]
    words += [word for key, value in given.items() for word in ("-p", f"{key}={json.dumps(value)}")]
    return shlex.join(words)


def _short(path: pathlib.Path) -> str:
    """Relative to the current folder where it lies in it: reports travel, and home folders are nobody's business."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(pathlib.Path.cwd()).as_posix()
    return path.name
