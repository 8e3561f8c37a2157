"""Many candidates against one reference: each difference switched on alone, and what the engine finds of it.

The reference is run, and its noise floor measured, once for all of them. Left out against a whole diagnosis: what leaks from run
to run, and each cause's share of the image.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from whydiff.causes import size
from whydiff.engine import noise_floor, summary
from whydiff.engine.agreement import check_vacuous
from whydiff.engine.conclusion import conclude
from whydiff.engine.lab import Lab
from whydiff.engine.matched import find_layouts
from whydiff.engine.rows import compare_runs
from whydiff.engine.store import from_notebooks
from whydiff.engine.study import Study
from whydiff.engine.walk import walk
from whydiff.errors import Trouble
from whydiff.evidence.case import Case, load_case, parse_yaml
from whydiff.evidence.surroundings.environment import environment
from whydiff.verdict import Verdict, describe


def read_switches(path) -> dict[str, dict[str, Any]]:
    """`name: {build argument: value}` from a YAML file. Raises Trouble where it is anything else."""
    path = pathlib.Path(from_notebooks(str(path)))
    if not path.is_file():
        raise Trouble(f"{path}: no such file of switches.")
    found = parse_yaml(path.read_text(encoding="utf-8-sig", errors="replace"), str(path))
    if not isinstance(found, dict) or not found or not all(isinstance(build, dict) for build in found.values()):
        raise Trouble(f"{path}: expected `name: {{build argument: value}}`, one line for each switch.")
    return {str(name): dict(build) for name, build in found.items()}


def each_alone(case, switches: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any] | None = None,
               said: Callable[[str], None] = lambda text: None) -> dict[str, Study]:  # fmt: skip
    """A study for each switch: the case with those arguments in `candidate.build`. Both sides of the case must be live."""
    studies: dict[str, Study] = {}
    first: Lab | None = None
    for name, build in switches.items():
        said(f"switch {len(studies) + 1} of {len(switches)}: {name}")
        keys = {f"candidate.build.{key}": value for key, value in build.items()} | {"candidate.name": name}
        lab = Lab(load_case(from_notebooks(case), dict(overrides or {}) | keys))
        lab.load()
        if None in lab.sides.values():
            raise Trouble(f"{lab.case.path}: switches are tried on sides that run; give both sides as `live`.")
        if first is None:
            lab.record_both()
            lab.floor, lab.floor_role = noise_floor.of(lab, "reference", lab.traces["reference"]), "reference"
            first = lab
        else:
            _share(first, lab)
        studies[name] = examined(lab, lab.case)
    return studies


def _share(first: Lab, lab: Lab) -> None:
    """Take the reference, its run and its floor over from the first lab; run the candidate."""
    lab.sides["reference"], lab.traces["reference"] = first.sides["reference"], first.traces["reference"]
    lab.floor, lab.floor_role = first.floor, first.floor_role
    lab.traces["candidate"] = lab.run("candidate", modules=lab.case.record.modules, steps=lab.case.record.steps)


def examined(lab: Lab, case: Case) -> Study:
    """What the walk finds in a lab that has both traces and a floor, with its verdict."""
    found = Study(case, lab, [], [], [], Verdict(verdict="different", summary="", case=case.name, question=case.question,
                                                 evidence=dict(lab.evidence)), environment())  # fmt: skip
    sizes = size.explain(lab)
    if not sizes:
        find_layouts(lab, lab.traces["candidate"])
    found.rows = compare_runs(lab)
    found.added = walk(lab, sizes, found.named)
    conclude(found.verdict, lab, found.rows, found.named, {}, [])
    if found.verdict.agrees:
        check_vacuous(found.verdict, lab)
    found.verdict.summary = summary.sentence(found.verdict, lab)
    return found


def named(verdict: Verdict) -> str:
    """What was found first, in few words: the causes' ids, or the first place that no experiment explains."""
    if verdict.causes:
        return ", ".join(f"`{cause.id}`" for cause in verdict.causes)
    return f"unexplained: {describe(verdict.unexplained[0])}" if verdict.unexplained else ""
