"""A study: everything that was measured about one case, and the verdict that follows from it."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

from whydiff.causes import size
from whydiff.engine import neighbours, noise_floor, rounds, summary
from whydiff.engine.agreement import check_vacuous
from whydiff.engine.alone import Store
from whydiff.engine.conclusion import conclude
from whydiff.engine.effects import image_effects
from whydiff.engine.figured import figure_rows
from whydiff.engine.float32 import closer, sixteen_bit
from whydiff.engine.lab import Lab
from whydiff.engine.leaks import Leaked, leaked, stale
from whydiff.engine.matched import find_layouts, match, settled
from whydiff.engine.recorded import walk_recorded
from whydiff.engine.rows import Row, compare_runs
from whydiff.engine.sketched import sketch_rows, sketched
from whydiff.engine.walk import Named, walk
from whydiff.evidence.case import Case
from whydiff.evidence.surroundings.environment import environment
from whydiff.evidence.traces.trace import Trace
from whydiff.places import walk_key
from whydiff.verdict import Verdict


@dataclasses.dataclass
class Study:
    """What notebooks and the report read. `rows` compare whole runs, `added` what each stage adds on equal inputs."""

    case: Case
    lab: Lab
    rows: list[Row]
    added: list[Row]
    named: list[Named]
    verdict: Verdict
    environment: dict

    @property
    def reference(self) -> Trace | None:
        return self.lab.traces["reference"]

    @property
    def candidate(self) -> Trace | None:
        return self.lab.traces["candidate"]

    def save(self, folder) -> pathlib.Path:
        """Write `verdict.json` and `traces/{reference,candidate}` into `folder`."""
        folder = pathlib.Path(folder)
        self.save_traces(folder / "traces")
        return self.verdict.save(folder)

    def save_traces(self, folder: pathlib.Path) -> None:
        for role, trace in self.lab.traces.items():
            if trace is None:
                continue
            if self.lab.evidence.get(role) == "live":  # a recording that says nothing of it was made somewhere else
                trace.environment = trace.environment or self.environment
            if self.lab.floor.source == "measured" and role == self.lab.floor_role:
                trace.floor = self.lab.floor.per_probe()
            target, draft = folder / role, folder / f".{role}.part"
            shutil.rmtree(draft, ignore_errors=True)
            trace.save(draft)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)


def study(case: Case, said: Callable[[str], None] = lambda text: None, apart: bool | None = None, store: Store | None = None) -> Study:
    """Gather the evidence of both sides, walk it, and come to a verdict. `apart`: only one side in memory at a time; None: where
    both do not fit. `store`: where sides and their runs come from, for one who studies many cases."""
    lab = Lab(case, said, apart, store)
    lab.load()
    found = examine(lab)
    if found.verdict.agrees:
        check_vacuous(found.verdict, lab, any(not row.equal for row in found.rows))
    if found.verdict.agrees and (coarse := sixteen_bit(lab)) is not None:
        found = closer(found, coarse, examine)
    found.verdict.summary = found.verdict.summary or summary.sentence(found.verdict, found.lab)
    return found


def examine(lab: Lab) -> Study:
    """All runs and experiments of a loaded lab, and what follows from them."""
    lab.record_both()
    match(lab)
    leaks: list[Leaked] = []
    with lab.as_far_as_runs_allow("measuring the noise floor, and what leaks from run to run,"):
        noise_floor.measure(lab)
        leaks = leaked(lab)
        neighbours.dependent(lab)
    case = lab.case
    found = Study(case, lab, [], [], [], Verdict(verdict="different", summary="", case=case.name, question=case.question,
                                                 evidence=dict(lab.evidence)), environment())  # fmt: skip
    if not comparable(lab):
        summary.incomparable(found.verdict, lab)
        return found
    sizes: list = []
    with lab.as_far_as_runs_allow("comparing the sizes"):
        sizes = size.explain(lab)
    if all(trace is not None for trace in lab.traces.values()):
        if not sizes:
            find_layouts(lab, lab.traces["candidate"])
        found.rows = sorted([*compare_runs(lab), *sketch_rows(lab, layouts=not sizes), *figure_rows(lab)], key=lambda row: walk_key(row.place))
        found.rows = settled(lab, found.rows)
    effects = search(found, sizes)
    if not found.named and not any(leak.explanations for leak in leaks) and not any(row.stands_out for row in found.rows):
        with lab.as_far_as_runs_allow("looking for what a request leaves behind"):
            leaks = stale(lab) or leaks
    conclude(found.verdict, lab, found.rows, found.named, effects, leaks)
    return found


def search(found: Study, sizes: list) -> dict[int, float | None]:
    """Find and explain what differs, by running the patient where one is live, else from recorded tensors. Returns the share
    of the image of each finding, by its id."""
    lab, effects = found.lab, {}
    patient = lab.patient if not sketched(lab) else None  # a fingerprint cannot be put into a run
    if patient is not None and found.rows:
        if found.case.candidate.injected:
            lab.notes.append(f"candidate.injected was not looked at: the {patient} is live, so its repairs are made here")
        with lab.as_far_as_runs_allow("the search for causes"):
            found.added = walk(lab, sizes, found.named)
        if lab.exhausted and found.named and not found.named[-1].explanations:
            finding = found.named[-1].finding
            finding.why = finding.why or "not explained within the budget of runs"
        with lab.as_far_as_runs_allow("the share of each cause in the image"):
            image_effects(lab, found.named, effects)
    if patient is None or not found.rows or (lab.exhausted and not found.named):
        done = rounds.load(lab)
        found.named = walk_recorded(lab, found.rows, sizes)
        whole = next((r for r in done if not r.at), None)
        if whole is not None and not sizes:
            found.added, found.named = rounds.walk_round(lab, whole)
        if found.named and None not in lab.traces.values():
            rounds.conclude_rounds(lab, done, found.named, effects)
    return effects


def comparable(lab: Lab) -> bool:
    """True when both sides have tensors with a place in common, or both have settings."""
    if all(trace is not None for trace in lab.traces.values()):
        return not set(lab.traces["reference"].places).isdisjoint(lab.traces["candidate"].places)
    return bool(summary.stated_settings(lab, "reference").keys() & summary.stated_settings(lab, "candidate").keys())
