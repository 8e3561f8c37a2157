"""A study: everything that was measured about one case, and the verdict that follows from it."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import torch

from whydiff.causes import size
from whydiff.engine import summary
from whydiff.engine.agreement import check_vacuous, leaked
from whydiff.engine.lab import OTHER, Lab
from whydiff.engine.recorded import walk_recorded
from whydiff.engine.walk import Named, Row, compare_runs, walk
from whydiff.evidence.case import Case
from whydiff.evidence.environment import environment
from whydiff.evidence.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.measure.pictures import round_to_8_bit
from whydiff.places import Place, walk_key
from whydiff.verdict import Cause, Verdict


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
            trace.environment = trace.environment or self.environment
            if self.lab.floor.source == "measured" and role == self.lab.floor_role:
                trace.floor = self.lab.floor.per_probe()
            target, draft = folder / role, folder / f".{role}.part"
            shutil.rmtree(draft, ignore_errors=True)
            trace.save(draft)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)


def study(case: Case, said: Callable[[str], None] = lambda text: None) -> Study:
    """Gather the evidence of both sides, walk it, and come to a verdict."""
    lab = Lab(case, said)
    lab.load()
    lab.record_both()
    leaks = leaked(lab, lab.measure_floor())
    verdict = Verdict(verdict="different", summary="", case=case.name, question=case.question, evidence=dict(lab.evidence))
    named: list[Named] = []
    rows: list[Row] = []
    added: list[Row] = []
    if not comparable(lab):
        summary.incomparable(verdict, lab)
        return Study(case, lab, rows, added, named, verdict, environment())
    sizes = size.explain(lab)
    if all(trace is not None for trace in lab.traces.values()):
        if not sizes:
            lab.find_layouts(lab.traces["candidate"])
        rows = compare_runs(lab)
    if lab.patient is not None and rows:
        named, added = walk(lab, sizes)
        effects = image_effects(lab, named)
    else:
        named, effects = walk_recorded(lab, rows, sizes), {}
    conclude(verdict, lab, rows, named, effects, leaks)
    if verdict.agrees:
        check_vacuous(verdict, lab)
    verdict.summary = summary.sentence(verdict, lab)
    return Study(case, lab, rows, added, named, verdict, environment())


def comparable(lab: Lab) -> bool:
    """True when both sides have tensors with a place in common, or both have settings."""
    if all(trace is not None for trace in lab.traces.values()):
        return any(place in lab.traces["candidate"] for place in lab.traces["reference"])
    return bool(summary.stated_settings(lab, "reference").keys() & summary.stated_settings(lab, "candidate").keys())


def conclude(verdict: Verdict, lab: Lab, rows: list[Row], named: list[Named], effects: dict, leaks: list[dict]) -> None:
    """Fill the verdict from what was found. The order of causes is that of the pipeline."""
    if leaks:  # what only runs after other runs show is the leak's
        apart = {row.place for row in rows if row.stands_out}
        named[:] = [entry for entry in named if entry.explanations or entry.finding.place in apart]
    named.sort(key=lambda entry: walk_key(entry.finding.place))
    source = lab.floor.source
    for entry in named:
        place = entry.finding.place
        for explanation in entry.explanations:
            steps = [p.step for p in entry.finding.places if p.step is not None]
            gaps = steps != list(range(steps[0], steps[0] + len(steps))) if steps else False
            verdict.causes.append(Cause(
                id=explanation.id, stage=explanation.stage or summary.stage_of_cause(explanation.id, place),
                probe=explanation.probe or place.probe, step=place.step, steps=sorted(set(steps)) if gaps else None,
                module=explanation.module, branch=place.branch, statement=explanation.statement, relation=explanation.relation,
                explained=explanation.explained, experiment=explanation.experiment, departs=explanation.departs,
                fix=explanation.fix, equivalent=explanation.equivalent, image_effect=effects.get(id(entry))))  # fmt: skip
        if not entry.explanations:
            verdict.unexplained.append(entry.finding.inmost(source))
    verdict.unexplained += leaks
    if named:
        first = named[0].finding
        verdict.first_divergence = first.to_dict(source) | {"module": (first.inside or {}).get("module", first.place.module)}
    elif leaks:
        verdict.first_divergence = {**leaks[0], "floor_source": source}
    verdict.declared = list(lab.declared)
    standing = [row for row in rows if row.stands_out]
    if not (named or leaks) and standing and not lab.declared and not lab.named_dtypes:
        # Whole runs differ although no stage adds anything: something between the probes is not under control.
        first = standing[0]
        verdict.first_divergence = first.place.to_dict() | {"difference": first.difference, "noise_floor": first.floor,
                                                            "floor_source": source}  # fmt: skip
        verdict.unexplained.append(verdict.first_divergence | {"why": first.why or "no single stage adds it on equal inputs"})
    if named or leaks or verdict.unexplained:
        verdict.verdict = "different"
    elif lab.declared:
        verdict.verdict = "precision"
        verdict.first_divergence = None
    elif all(row.equal for row in rows):
        verdict.verdict = "same"
    else:
        verdict.verdict = "within_noise"
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    verdict.compared = {"tensors": len(rows), "unpaired_reference": _unpaired(reference, candidate),
                        "unpaired_candidate": _unpaired(candidate, reference),
                        "layouts": [f"{probe}: {layout.name}" for probe, layout in lab.layouts.items()]}  # fmt: skip
    verdict.notes += [*lab.notes, *unseen(lab, named)]


def unseen(lab: Lab, named: list[Named]) -> list[str]:
    """A note for each unexplained place right before which places were recorded on one side only."""
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    notes = []
    for entry in named:
        if entry.explanations or reference is None or candidate is None:
            continue
        here = entry.finding.place
        before = sorted((p for p in reference if walk_key(p) < walk_key(here) and not p.probe.startswith("modules")), key=walk_key)
        last = max((i for i, p in enumerate(before) if p in candidate), default=-1)
        missing = list(dict.fromkeys(p.probe for p in before[last + 1 :]))
        if missing:
            start = f"between {before[last]} and" if last >= 0 else "before"
            notes.append(f"{here} is the first place compared, not necessarily the first that differs: {start} it, "
                         f"{', '.join(missing)} were recorded on the reference only.")  # fmt: skip
    return notes


def _unpaired(one: Trace | None, other: Trace | None) -> list[str]:
    if one is None or other is None:
        return []
    return list(dict.fromkeys(str(place) for place in one if place not in other))


def image_effects(lab: Lab, named: list[Named]) -> dict[int, float | None]:
    """For each finding: the share of the image's difference that goes when only its cause is repaired."""
    other = lab.traces[OTHER[lab.patient]]
    mine = lab.traces[lab.patient]
    place = last_common(mine, other)
    if place is None:
        return {}
    effects: dict[int, float | None] = {}
    base_changes: dict = {}
    if mine[place].shape != other[place].shape:
        for entry in named:  # what restores the shape is repaired on both sides of the fraction
            if entry.changes and lab.run(lab.patient, changes=entry.changes)[place].shape == other[place].shape:
                base_changes |= entry.changes
                effects[id(entry)] = None
    base = lab.run(lab.patient, changes=base_changes)[place] if base_changes else mine[place]
    eight_bit = "8 bit" in {trace.events[place].component for trace in (mine, other)}
    whole = _distance(other[place], base, eight_bit)
    for number, entry in enumerate(named, 1):
        if id(entry) in effects or not whole:
            continue
        lab.said(f"how much of the image is it? cause {number} of {len(named)}")
        if place.probe in entry.probes:  # the repair is the output itself
            effects[id(entry)] = min((e.explained for e in entry.explanations), default=1.0)
            continue
        if entry.finding.place in lab.unrepaired:
            continue
        dtype = next((e.dtype for e in entry.explanations if e.dtype is not None), None)
        trace = lab.in_dtype(dtype, base_changes) if dtype else lab.repaired(entry.probes, base_changes | entry.changes)
        if trace is None:
            continue
        if place in trace and trace[place].shape == other[place].shape:
            effects[id(entry)] = 1.0 - _distance(other[place], trace[place], eight_bit) / whole
            if entry.probes and nothing_moved(lab, trace, entry.finding.place, base_changes):
                lab.notes.append(f"The tap at {entry.finding.probe} does not repair: nothing after it moved when its value was "
                                 "replaced, so nothing is concluded from that replacement. Use the value that tap returns.")  # fmt: skip
                effects[id(entry)] = None
    return effects


def nothing_moved(lab: Lab, trace: Trace, place: Place, changes: dict) -> bool:
    """True when no place after `place` changed although its value was replaced by a different one."""
    if place not in trace.moved:
        return False
    before = lab.traces[lab.patient] if not changes else lab.run(lab.patient, changes=changes)
    later = [p for p in trace if walk_key(p) > walk_key(place) and p in before and p.probe != place.probe]
    return bool(later) and all(torch.equal(trace[p], before[p]) for p in later if trace[p].shape == before[p].shape)


def last_common(one: Trace, other: Trace) -> Place | None:
    """`image`, or the last place that both have."""
    common = sorted((p for p in one if p in other and not p.probe.startswith("modules")), key=walk_key)
    return common[-1] if common else None


def _distance(a: torch.Tensor, b: torch.Tensor, eight_bit: bool = False) -> float:
    if a.shape != b.shape:
        return float("nan")
    return relative_l2(round_to_8_bit(a), round_to_8_bit(b)) if eight_bit else relative_l2(a, b)
