"""A study as a folder, so that ten notebooks can read one diagnosis instead of repeating it.

`study.json` holds what is no tensor; the traces lie beside it, or in `../traces` where the report has them already.
Live sides are not stored: they are loaded from the case when an audit first runs something.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator

import torch
from safetensors.torch import load_file, save_file

from whydiff.causes.finding import Explanation, Finding
from whydiff.engine.api import study as make_study
from whydiff.engine.lab import Lab
from whydiff.engine.repaired import Repaired
from whydiff.engine.rows import Row
from whydiff.engine.study import Study
from whydiff.engine.walk import Named
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case
from whydiff.evidence.floor import Floor
from whydiff.evidence.sides.loading import load_side
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.strangers import reading
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.layouts import Layout
from whydiff.places import Place
from whydiff.verdict import Verdict

FILE = "study.json"
PICTURES = "repaired.safetensors"  # the picture of the run with each cause repaired, and with all


def load_or_make(case, folder="", progress: Callable[[str], None] | None = None) -> Study:
    """The study stored in `folder`, if there is one; otherwise a new one of `case`, stored there if a folder is named."""
    if folder and (pathlib.Path(folder) / FILE).is_file():
        study = load_study(folder, case, progress)
    else:
        study = make_study(from_notebooks(case), progress=progress)
        if folder:
            save_study(study, folder)
    study.lab.said("the study is ready")
    return study


def from_notebooks(case):
    """A case's path as a notebook gives it: relative to the current folder, or else to the notebooks' folder.

    JupyterLab, nbval and `whydiff investigate` run a notebook in its own folder, papermill alone where it was called.
    """
    if isinstance(case, str | pathlib.Path) and not pathlib.Path(case).is_file():
        beside = pathlib.Path(__file__).parents[3] / "notebooks" / case
        return beside.resolve() if beside.is_file() else case
    return case


def save_study(study: Study, folder) -> pathlib.Path:
    """Write a study into `folder` (made if missing)."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / "traces"
    roles = [role for role, trace in study.lab.traces.items() if trace is not None]
    if all((beside / role / "trace.jsonl").is_file() for role in roles):
        traces = "../traces"
    else:
        traces = "traces"
        study.save_traces(folder / traces)
    lab = study.lab
    data = {
        "schema": 1,
        "case": study.case.model_dump(mode="json"),
        "path": str(study.case.path or ""),
        "name": study.case.name,
        "traces": {role: f"{traces}/{role}" for role in roles},
        "evidence": lab.evidence,
        "notes": lab.notes,
        "floor": {
            "source": lab.floor.source,
            "role": lab.floor_role,
            "inherited": _floors(lab.floor.inherited),
            "added": _floors(lab.floor.added),
        },
        "layouts": {probe: dataclasses.asdict(layout) for probe, layout in lab.layouts.items()},
        "rows": [_row(row) for row in study.rows],
        "added": [_row(row) for row in study.added],
        "named": [_named(entry) for entry in study.named],
        "repaired_all": _repaired(lab.repaired_all),
        "declared": lab.declared,
        "verdict": study.verdict.to_dict(),
        "environment": study.environment,
    }
    _save_pictures(study, folder / PICTURES)
    path = folder / FILE
    draft = path.with_suffix(".json.part")
    draft.write_text(json.dumps(_plain(data), ensure_ascii=False), encoding="utf-8")
    draft.replace(path)
    return path


def load_study(folder, case=None, progress: Callable[[str], None] | None = None) -> Study:
    """The study in `folder`. Raises Trouble where there is none, or where it is the study of another case than `case`."""
    path = pathlib.Path(folder) / FILE
    if not path.is_file():
        raise Trouble(f"{path} does not exist; leave study_from empty to run the diagnosis here.")
    remedy = "Remove the folder and run the diagnosis again."
    with reading(path, "whole", remedy):
        data = json.loads(path.read_text(encoding="utf-8"))
        data["name"], data["traces"].items()
    if case is not None and pathlib.Path(str(case)).stem != data["name"]:
        raise Trouble(
            f"{path} is the study of {data['name']}, not of {pathlib.Path(str(case)).stem}. Name another folder in study_from."
        )
    for role, name in data["traces"].items():
        if name not in (f"../traces/{role}", f"traces/{role}"):
            raise Trouble(f"{path}: the trace of {role} lies elsewhere ({str(name)[:100]}). {remedy}")
    with reading(path, "a study that can be read", remedy):
        return _restored(path, data, progress)


def _restored(path: pathlib.Path, data: dict, progress: Callable[[str], None] | None) -> Study:
    restored = make_case(data["case"], str(path))
    restored.path = data["path"] or None
    lab = Lab(restored, progress or (lambda text: None))
    lab.sides = SidesOnDemand(lab)
    lab.traces = {role: read_trace(path.parent / data["traces"][role]) if role in data["traces"] else None for role in lab.traces}
    for trace in lab.traces.values():
        if trace is not None:
            trace.floor = {}
    floor = data["floor"]
    lab.floor = Floor(_read_floors(floor["inherited"]), _read_floors(floor["added"]), floor["source"])
    lab.floor_role, lab.evidence, lab.notes, lab.declared = floor["role"], data["evidence"], data["notes"], data["declared"]
    lab.layouts = {
        probe: Layout(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
        for probe, entry in data["layouts"].items()
    }
    rows, added = ([_read_row(entry) for entry in data[key]] for key in ("rows", "added"))
    pictures = load_file(path.parent / PICTURES) if (path.parent / PICTURES).is_file() else {}
    named = [_read_named(entry, lab) for entry in data["named"]]
    for number, (entry, kept) in enumerate(zip(named, data["named"], strict=True)):
        entry.repaired = _read_repaired(kept.get("repaired"), pictures.get(str(number)))
    lab.repaired_all = _read_repaired(data.get("repaired_all"), pictures.get("all"))
    return Study(restored, lab, rows, added, named, Verdict.from_dict(data["verdict"]), data["environment"])


class SidesOnDemand(dict):
    """A lab's sides, each loaded from the case when it is first asked for."""

    def __init__(self, lab: Lab):
        super().__init__(dict.fromkeys(lab.case.sides()))
        self._lab = lab
        self._waiting = {role for role, side in lab.case.sides().items() if side.live}

    def __getitem__(self, role):
        if role in self._waiting:
            self._waiting.discard(role)
            self._lab.said(f"loading {role}")
            super().__setitem__(role, load_side(self._lab.case, role))
        return super().__getitem__(role)

    def values(self) -> list:
        return [self[role] for role in self]

    def items(self) -> Iterator:
        return iter([(role, self[role]) for role in self])


def _place(place: Place) -> dict:
    return dataclasses.asdict(place)


def _row(row: Row) -> dict:
    return dataclasses.asdict(row)


def _read_row(entry: dict) -> Row:
    return Row(**(entry | {"place": Place(**entry["place"])}))


def _floors(floors: dict[Place, float]) -> list:
    return [[_place(place), value] for place, value in floors.items()]


def _read_floors(entries: list) -> dict[Place, float]:
    return {Place(**place): value for place, value in entries}


def _named(entry: Named) -> dict:
    finding = entry.finding
    return {
        "probe": finding.probe,
        "places": [_place(p) for p in finding.places],
        "difference": finding.difference,
        "floor": finding.floor,
        "why": finding.why,
        "explanations": [dataclasses.asdict(e) | {"covers": sorted(e.covers)} for e in entry.explanations],
        "changes": entry.changes,
        "probes": sorted(entry.probes),
        "repaired": _repaired(entry.repaired),
    }


def _repaired(run: Repaired | None) -> dict | None:
    return None if run is None else {"rows": [_row(row) for row in run.rows], "put": run.put}


def _read_repaired(entry: dict | None, picture) -> Repaired | None:
    return None if entry is None else Repaired([_read_row(row) for row in entry["rows"]], entry["put"], picture)


def _save_pictures(study: Study, path: pathlib.Path) -> None:
    runs = {str(number): entry.repaired for number, entry in enumerate(study.named)} | {"all": study.lab.repaired_all}
    made = {name: run.picture for name, run in runs.items() if run is not None and run.picture is not None}
    pictures = {name: picture.clone(memory_format=torch.contiguous_format) for name, picture in made.items()}
    if pictures:
        save_file(pictures, path)


def _read_named(entry: dict, lab: Lab) -> Named:
    """A finding with the tensors of the two traces at its places (what the patient made of equal inputs is not stored)."""
    places = [Place(**place) for place in entry["places"]]
    reference = _at(lab.traces["reference"], places)
    finding = Finding(
        entry["probe"], places, reference, _at(lab.traces["candidate"], places), entry["difference"], entry["floor"], entry["why"]
    )
    explanations = [Explanation(**(e | {"covers": set(e["covers"])})) for e in entry["explanations"]]
    return Named(finding, explanations, entry["changes"], set(entry["probes"]))


def _at(trace: Trace | None, places: list[Place]) -> dict:
    return {} if trace is None else {place: trace[place] for place in places if place in trace}


def _plain(value):
    """JSON knows no infinity, no tensor and no number of numpy."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.item() if hasattr(value, "item") else str(value)
