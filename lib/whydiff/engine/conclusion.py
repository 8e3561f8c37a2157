"""From what was found to the verdict: causes, what stays unexplained, the first divergence, and what was compared."""

from __future__ import annotations

from whydiff.causes.concentration import concentration
from whydiff.causes.describe import describe_relation
from whydiff.causes.finding import VALUES, Explanation
from whydiff.engine import summary
from whydiff.engine.coverage import outputs_compared, weights_compared
from whydiff.engine.lab import Lab
from whydiff.engine.leaks import Leaked
from whydiff.engine.rows import Row
from whydiff.engine.walk import Named
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, walk_key
from whydiff.verdict import Cause, Verdict


def conclude(verdict: Verdict, lab: Lab, rows: list[Row], named: list[Named], effects: dict, leaks: list[Leaked]) -> None:
    """Fill the verdict from what was found. The order of causes is that of the pipeline."""
    if leaks:  # what only runs after other runs show is the leak's
        apart = {row.place for row in rows if row.stands_out}
        named[:] = [entry for entry in named if entry.finding.place in apart or not entry.finding.candidate or entry.finding.kind != VALUES]
    named.sort(key=lambda entry: walk_key(entry.finding.place))
    source = lab.floor.source
    for entry in named:
        place = entry.finding.place
        for explanation in entry.explanations:
            steps = [p.step for p in entry.finding.places if p.step is not None]
            gaps = steps != list(range(steps[0], steps[0] + len(steps))) if steps else False
            verdict.causes.append(_cause(explanation, place, steps=sorted(set(steps)) if gaps else None, image_effect=effects.get(id(entry))))
        if not entry.explanations:
            profile, sits = concentration(entry.finding, lab.traces["reference"])
            entry.finding.why = entry.finding.why or describe_relation(entry.finding, sits)
            verdict.unexplained.append(entry.finding.inmost(source) | ({"profile": profile} if profile else {}))
    for leak in leaks:
        verdict.causes += [_cause(explanation, leak.finding.place, stage="state_leakage") for explanation in leak.explanations]
        if not leak.explanations:
            verdict.unexplained.append(leak.entry)
    if named:
        first = named[0].finding
        profile, _ = concentration(first, lab.traces["reference"])
        verdict.first_divergence = first.to_dict(source) | {"module": (first.inside or {}).get("module", first.place.module)}
        verdict.first_divergence |= {"profile": profile} if profile else {}
    elif leaks:
        verdict.first_divergence = {**leaks[0].entry, "floor_source": source}
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
    if any(row.figures for row in rows):
        verdict.compared["figures"] = sum(row.figures for row in rows)
    verdict.compared |= weights_compared(lab) | outputs_compared(lab)
    verdict.notes += [*lab.notes, *unseen(lab, named)]
    if rows and lab.patient == "reference":
        verdict.notes.append("only the reference is live: the candidate's recorded values were put into it, so repairs and shares are those of "
                             "the reference")  # fmt: skip


def _cause(explanation: Explanation, place: Place, *, stage: str | None = None, steps=None, image_effect: float | None = None) -> Cause:
    return Cause(
        id=explanation.id, stage=explanation.stage or stage or summary.stage_of_cause(explanation.id, place),
        probe=explanation.probe or place.probe, step=place.step, steps=steps, module=explanation.module, branch=place.branch,
        occurrence=place.occurrence,
        statement=explanation.statement, relation=explanation.relation, explained=explanation.explained,
        experiment=explanation.experiment, departs=explanation.departs, fix=explanation.fix, equivalent=explanation.equivalent,
        image_effect=image_effect)  # fmt: skip


def unseen(lab: Lab, named: list[Named]) -> list[str]:
    """A note for each unexplained place right before which places were recorded on one side only."""
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    notes = []
    for entry in named:
        if entry.explanations or reference is None or candidate is None:
            continue
        here = entry.finding.place
        before = sorted((p for p in reference.places if walk_key(p) < walk_key(here) and not p.probe.startswith("modules")), key=walk_key)
        last = max((i for i, p in enumerate(before) if p in set(candidate.places)), default=-1)
        missing = list(dict.fromkeys(p.probe for p in before[last + 1 :]))
        if missing:
            start = f"between {before[last]} and" if last >= 0 else "before"
            notes.append(f"{here} is the first place compared, not necessarily the first that differs: {start} it, "
                         f"{', '.join(missing)} were recorded on the reference only.")  # fmt: skip
    return notes


def _unpaired(one: Trace | None, other: Trace | None) -> list[str]:
    if one is None or other is None:
        return []
    known = set(other.places)
    return list(dict.fromkeys(str(place) for place in one.places if place not in known))
