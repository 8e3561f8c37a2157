"""The walk: compare place by place in pipeline order, repair what is explained, and go on to the next difference.

All stages are looked at in one run: every probe of the candidate is recorded and then given the reference's value, so
what a place shows is what its stage *adds* on the reference's inputs. Nothing inherited can be blamed.
"""

from __future__ import annotations

import dataclasses

from whydiff.causes import expert, precision
from whydiff.causes.calls import reused
from whydiff.causes.finding import ABSENT, VALUES, Explanation, Finding
from whydiff.causes.registry import explain
from whydiff.engine.inheritance import inherits, may_inherit, unsettled
from whydiff.engine.lab import Lab
from whydiff.engine.looking import look_inside
from whydiff.engine.matched import find_layouts
from whydiff.engine.merging import named_alike, told
from whydiff.engine.missing import call_counts, left_out
from whydiff.engine.repaired import Repaired
from whydiff.engine.repairs import align, fed_alike, inherited, pair_branches, resize
from whydiff.engine.rows import Row, added_rows, as_images
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, walk_key


@dataclasses.dataclass
class Named:
    """A finding with the explanations an experiment gave for it (none: unexplained)."""

    finding: Finding
    explanations: list[Explanation]
    changes: dict  # call arguments that repair it
    probes: set[str] = dataclasses.field(default_factory=set)  # or probes at which the other side's values do
    arguments: set[str] = dataclasses.field(default_factory=set)  # or arguments of the network that are to be passed, or left out
    repaired: Repaired | None = None  # the run in which it alone was repaired

    def explain(self, explanations: list[Explanation]) -> None:
        """Take what experiments found, and what repairs it."""
        self.explanations = explanations
        self.changes = {key: value for explanation in explanations for key, value in explanation.changes.items()}
        self.arguments = set().union(*(explanation.supplies for explanation in explanations))
        covered = set().union(*(explanation.covers for explanation in explanations))
        own = {self.finding.probe} if self.finding.kind == VALUES else set()
        self.probes = set() if self.changes else own | covered


def findings(lab: Lab, rows: list[Row], forced: Trace) -> list[Finding]:
    """The rows that stand out, one finding for each probe, in walking order."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row.stands_out and not row.place.probe.startswith("modules"):
            grouped.setdefault(row.place.probe, []).append(row)
    found = []
    for probe, group in grouped.items():
        reference, candidate = {}, {}
        for row in group:
            own = forced[row.place]
            if lab.patient == "candidate":
                pair = lab.pair(row.place, own)
                reference[row.place] = lab.traces["reference"][row.place]
            else:
                pair = (own, lab.traces["candidate"][row.place])
                pair = pair if pair[0].shape == pair[1].shape else None
                reference[row.place] = own
            if pair is not None and probe == "image":
                pair = as_images(lab, row.place, *pair, row.floor)[:2]
                reference[row.place] = pair[0]
            if pair is not None:
                candidate[row.place] = pair[1]
        first = group[0]
        found.append(Finding(probe, [row.place for row in group], reference, candidate, first.difference, first.floor, first.why))
    return sorted(found, key=lambda f: walk_key(f.place))


def walk(lab: Lab, sizes: list[Explanation], named: list[Named]) -> list[Row]:
    """Find, explain and repair until nothing stands out. `sizes` are explanations of other output sizes, repaired first.

    Fills `named` with what was found, so that it holds what is known when the runs of a budget are used up (OutOfRuns).
    Returns what each stage adds (the rows of the first run on equal inputs).
    """
    named += [size_named(explanation) for explanation in sizes]
    changes: dict = {}
    for entry in named:
        changes |= entry.changes
    if changes:
        find_layouts(lab, lab.run("candidate", changes=changes))
    settled: set[str] = set()
    first_rows: list[Row] | None = None
    unused: dict[str, Finding] = {}  # arguments that one network does without, and that supplying alone does not settle
    while True:
        lab.said("running the candidate on the reference's inputs, stage by stage")
        forced = lab.forced(changes)
        rows = added_rows(lab, forced)
        first_rows = first_rows or rows
        waiting = [f for f in all_findings(lab, rows, forced, settled) if f.key not in settled]
        if not waiting:
            lab.notes += unsettled(unused, named)
            return first_rows
        finding = waiting[0]
        parent = inherits(finding, lab, settled)
        if parent or precision.accepted(finding, lab):
            settled.add(finding.key)
            for entry in named:
                if entry.finding.probe == parent and entry.probes:
                    entry.probes.add(finding.probe)
            continue
        lab.said(f"looking for the cause at {finding.probe}")
        again, finding = reused.apart(finding, lab)
        other, finding = expert.apart(finding, lab)
        known = [explanation.relation for earlier in named for explanation in earlier.explanations]
        named += [Named(part, [explanation], {}) for part, explanation in again + other if explanation.relation not in known]
        entry = Named(finding, [], {})
        named.append(entry)
        explanations = explain(finding, lab)
        if not explanations and finding.kind == ABSENT:
            named.remove(entry)  # the argument makes no difference, or not this one
            unused[finding.probe] = finding
            settled.add(finding.key)
            continue
        if not explanations and not fed_alike(finding, lab, forced) and (why := may_inherit(finding, lab)):
            lab.notes.append(why)
            named.remove(entry)
            settled.add(finding.key)
            continue
        if not explanations:
            looked = look_inside(finding, lab, changes)
            explanations, others = looked.causes, [other for other in named if other is not entry]
            named += [Named(other, [], {}) for other in looked.rest if not told(other, others)]
            if (earlier := told(finding, others) if not explanations else named_alike(explanations, others)) is not None:
                named.remove(entry)  # the other branch of guidance calls the same module
                earlier.probes.add(finding.probe)
                settled.add(finding.probe)
                continue
            named += [Named(part, causes, {}) for part, causes in looked.later]
        elif finding.kind == VALUES and finding.place not in forced.moved and all(e.dtype is None and not e.changes for e in explanations):
            lab.unrepaired.append(finding.place)
        if not explanations and finding.kind == VALUES and finding.place not in finding.candidate:
            lab.unshaped.append(finding.place)
        entry.explain(explanations)
        entry.finding = next((unused[e.probe] for e in explanations if e.probe in unused), finding)
        changes |= entry.changes
        lab.settled_arguments |= entry.arguments
        if align(lab, explanations):
            entry.probes |= inherited(added_rows(lab, lab.forced(changes)))
        pair_branches(lab, explanations)
        resize(lab, finding, explanations, changes)
        settled |= entry.probes | ({finding.key} if finding.kind != VALUES else set())
        if entry.changes and any(f.key == finding.key and f.place == finding.place for f in _again(lab, changes)):
            settled.add(finding.key)  # the call was changed and something is still wrong there: do not ask again


def all_findings(lab: Lab, rows: list[Row], forced: Trace, settled: set[str] = frozenset()) -> list[Finding]:
    """What differs and what is missing, in walking order. An argument left out counts only where a prediction differs, another
    number of evaluations only where lists of timesteps do not account for it, or no more."""
    mine, theirs = (lab.traces["reference"], forced) if lab.patient == "candidate" else (forced, lab.traces["candidate"])
    found = findings(lab, rows, forced)
    if any(f.probe.startswith("noise_pred") for f in found):
        found += left_out(mine, theirs)
    calls = call_counts(mine, theirs)
    if calls is not None and not any(f.probe == "timesteps" and f.key not in settled for f in found):
        found.append(calls)
    return sorted(found, key=lambda f: walk_key(f.place))


def size_named(explanation: Explanation) -> Named:
    """Sizes differ: found in the settings, or at the first tensor that has a size."""
    place = Place(explanation.probe or "initial_noise")
    return Named(Finding(place.probe, [place], {}, {}, None, 0.0, "sizes differ"), [explanation], dict(explanation.changes))


def _again(lab: Lab, changes: dict) -> list[Finding]:
    forced = lab.forced(changes)
    return all_findings(lab, added_rows(lab, forced), forced)
