"""Repair and continue by files: what further rounds of the candidate show, run with the reference's recorded tensors put in.

A round with everything put in shows what each stage adds on the reference's inputs, so that each place which still differs is a
root. A round with some probes put in shows what is left once these are right. Which round to run next is said in one line.
"""

from __future__ import annotations

import dataclasses
import hashlib

import torch

from whydiff.causes.registry import explain
from whydiff.engine.effects import last_common
from whydiff.engine.inheritance import inherits
from whydiff.engine.lab import Lab
from whydiff.engine.recorded import findings
from whydiff.engine.rows import Row, compare_runs
from whydiff.engine.walk import Named
from whydiff.errors import Trouble
from whydiff.evidence.floor import STANDS_OUT, Floor, own_ulp
from whydiff.evidence.recording.injection import matches
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, family, walk_key

# Units in the last place by which a healthy stage moves its output at most (docs/decisions/0002-noise-floor.md): what is allowed a
# stage on equal inputs where no floor was measured.
HEALTHY_ULPS = 140
_FROM_SIZES = ("settings", "environment")  # probes that no tensor repairs


@dataclasses.dataclass
class Round:
    """One further run of the candidate. `at`: the globs at which the reference's values were put; all places where it is empty."""

    name: str
    trace: Trace
    at: list[str]

    def put_at(self, place: Place) -> bool:
        return not self.at or any(matches(glob, place) for glob in self.at)


def load(lab: Lab) -> list[Round]:
    """The rounds that the case names under `candidate.injected`. Raises Trouble for a trace into which nothing was put."""
    if lab.case.reference.injected:
        raise Trouble("reference.injected: values go from the reference into the candidate; name the rounds under candidate.")
    found = []
    for name in lab.case.candidate.injected:
        trace = read_trace(lab.case.resolve(name))
        if not trace.injection:
            raise Trouble(f"candidate.injected: {name} says of no tensor that was put into it. Record it with WHYDIFF_INJECT=TRACE.")
        found.append(Round(name, trace, list(trace.injection.get("at") or [])))
        _check_source(lab, found[-1])
    return found


def _check_source(lab: Lab, done: Round) -> None:
    given = lab.case.reference.trace
    path = lab.case.resolve(given) / "trace.jsonl" if given else None
    if path is not None and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != done.trace.injection.get("sha256"):
        lab.notes.append(f"{done.name} was run with tensors of {done.trace.injection.get('from')!r}, which is not the reference's trace as it is "
                         "now; its conclusions hold for that one")  # fmt: skip
    alone = done.trace.injection.get("left_alone") or {}
    if alone:
        told = "; ".join(f"{place}: {why}" for place, why in list(alone.items())[:3])
        count = done.trace.injection.get("left_alone_count", len(alone))
        lab.notes.append(f"{done.name}: nothing was put at {count} places ({told}{'; ...' if count > 3 else ''})")


class _Forced(Lab):
    """The lab while a round into which everything was put stands for the candidate's own values, stage by stage."""

    def __init__(self, lab: Lab, done: Round):
        self.__dict__.update(lab.__dict__)
        self.done, self.floor = done, stage_floor(lab, done.trace)

    def own_value(self, role: str, place: Place) -> torch.Tensor | None:
        trace = self.done.trace if role == "candidate" else self.traces[role]
        event = trace.events.get(place)
        return None if event is None else event.tensor


def stage_floor(lab: Lab, trace: Trace) -> Floor:
    """What a stage may add: the stored floor of whole runs, or what a healthy stage does where none was measured."""
    reference = lab.traces["reference"]
    floors = {place: reference.floor.get(place.probe, HEALTHY_ULPS / STANDS_OUT * own_ulp(reference[place])) for place in reference if place in trace}
    return Floor(floors, floors, lab.floor.source)


def walk_round(lab: Lab, done: Round) -> tuple[list[Row], list[Named]]:
    """(what each stage adds, its roots with their explanations) from a round into which everything was put."""
    forced = _Forced(lab, done)
    rows = compare_runs(forced, done.trace)
    named, settled = [], set()
    for finding in findings(forced, rows, done.trace):
        if not inherits(finding, forced, settled):
            named.append(Named(finding, explain(finding, forced), {}))
        settled |= {finding.probe, family(finding.probe)}
    return rows, named


def left_after(lab: Lab, done: Round) -> list[Row]:
    """The places that still stand out in a round with some probes put in, those apart at which values were put."""
    return [row for row in compare_runs(lab, done.trace) if row.stands_out and not done.put_at(row.place)]


def conclude_rounds(lab: Lab, rounds: list[Round], named: list[Named], effects: dict[int, float | None]) -> None:
    """Say what each partial round shows, and which one to run next."""
    before = {row.place: row.difference for row in compare_runs(lab)}
    remaining: list[Row] | None = None
    for done in (r for r in rounds if r.at):
        left = left_after(lab, done)
        words = f"with the reference's {', '.join(done.at)} put in ({done.name})"
        if left:
            first = left[0]
            size = first.why or f"{first.difference:.3g}"
            lab.notes.append(f"{words}, {len(left)} places still differ, first {first.place} ({size}): another cause remains there")
        else:
            lab.notes.append(f"repaired: {words}, nothing else differs")
        remaining = left if remaining is None or len(left) < len(remaining) else remaining
        _effect(lab, done, named, before, effects)
    line = next_round(lab, rounds, named, remaining)
    if line:
        lab.notes.append(line)


def _effect(lab: Lab, done: Round, named: list[Named], before: dict, effects: dict) -> None:
    """The share of the image's difference that goes, where a round repairs one finding alone."""
    repaired = [entry for entry in named if done.put_at(entry.finding.place)]
    place = last_common(done.trace, lab.traces["reference"])
    if len(repaired) != 1 or place is None or not before.get(place):
        return
    after = next((row.difference for row in compare_runs(lab, done.trace) if row.place == place), None)
    if after is not None:
        effects[id(repaired[0])] = 1.0 - after / before[place]


def next_round(lab: Lab, rounds: list[Round], named: list[Named], remaining: list[Row] | None) -> str:
    """One line: the variables to set for the run that tells most, or nothing where no run would tell more."""
    reference = lab.case.reference.trace
    sizes = any(entry.finding.probe in _FROM_SIZES for entry in named)
    if reference is None or lab.patient is not None or remaining == [] or sizes:
        return ""
    if not len(lab.traces["reference"]) or lab.traces["reference"].sketches:
        return "next: record the reference at level full; a fingerprint cannot be put into a run"
    if not any(not r.at for r in rounds):
        return _line(reference, "", "each stage then shows what it adds by itself")
    probes = {entry.finding.probe: entry.finding.place for entry in named}
    probes |= {row.place.probe: row.place for row in (remaining or [])[:1]}
    at = [p for p, _ in sorted(probes.items(), key=lambda item: walk_key(item[1]))]
    if not at or any(set(r.at) >= set(at) for r in rounds if r.at):
        return ""
    return _line(reference, ",".join(at), "what is left then has another cause")


def _line(reference: str, at: str, why: str) -> str:
    where = f" WHYDIFF_INJECT_AT='{at}'" if at else ""
    return (f"next: run the candidate again with WHYDIFF_INJECT={reference}{where} WHYDIFF_RECORD=NEW_FOLDER, and name NEW_FOLDER under "
            f"candidate.injected in the case: {why}")  # fmt: skip
