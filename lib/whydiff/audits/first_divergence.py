"""Where does the first difference appear, who adds to it, and which module of the network is the first to depart?"""

from __future__ import annotations

import contextlib
import dataclasses

from whydiff.audits.alignment import Alignment, ModulePair, Output, align
from whydiff.audits.judge import largest
from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.evidence.diffusers_probes import denoisers
from whydiff.evidence.floor import STANDS_OUT, mover, own_ulp
from whydiff.evidence.recorder import Recorder
from whydiff.measure.compare import relative_l2
from whydiff.places import stage_of
from whydiff.verdict import where

NAME = "first_divergence"
QUESTION = "Where does the first difference appear, which stages add to it, and which module is the first to depart?"


@dataclasses.dataclass(frozen=True)
class ModuleWalk:
    """Both networks at one step on the same inputs, module by module. `first`: the first pair beyond its floor."""

    step: int
    alignment: Alignment
    floors: dict[str, float]  # by the reference's module
    first: ModulePair | None


def audit(study, step: int | None = None) -> AuditResult:
    """Inherited against added, probe by probe; then the modules of the network at `step` (the first that stands out),
    paired by what they put out."""
    modules = module_walk(study, step)
    first = study.verdict.first_divergence
    findings = []
    if study.verdict.verdict == "vacuous":
        findings.append(Sentence("nothing that could make a difference differs between the sides, so agreement proves nothing"))
    elif first:
        findings.append(Sentence(f"the first difference is at {where(first)}"))
    else:
        findings.append(Sentence("no place stands out from the noise floor"))
    findings += [*_adding(study), *_modules(study, modules)]
    return AuditResult(
        NAME,
        QUESTION,
        study.verdict.verdict,
        tuple(findings),
        (
            "probe",
            "largest difference of whole runs",
            "at",
            "noise floor",
            "largest difference added",
            "noise floor of the stage",
            "stands out",
        ),
        tuple(probe_rows(study)),
        {"strip": tuple(strip(study)), "growth": growth(study), "modules": modules, "pairs": pair_table(modules)},
    )


def probe_rows(study):
    """One row for each probe, in walking order."""
    added = largest(study.added)
    for probe, row in largest(study.rows).items():
        own = added.get(probe)
        stands = "adds" if own is not None and own.stands_out else "inherits" if row.stands_out and own is not None else ""
        stands = stands or ("yes" if row.stands_out else "")
        yield (
            probe,
            _figure(row),
            str(row.place),
            row.floor,
            None if own is None else _figure(own),
            None if own is None else own.floor,
            stands,
        )


def _figure(row):
    return row.why if row.difference is None else row.difference


def strip(study):
    """(probe, difference over floor of whole runs, of what is added, whether it is the first divergence) in walking order."""
    added, first = largest(study.added), (study.verdict.first_divergence or {}).get("probe")
    for probe, row in largest(study.rows).items():
        yield probe, _over_floor(row), _over_floor(added.get(probe)), probe == first


def _over_floor(row) -> float | None:
    """Difference in units of the floor; None where nothing was measured, infinity where shapes differ or values are not finite."""
    if row is None:
        return None
    if row.difference is None:
        return float("inf")
    return row.difference / row.floor if row.floor else (0.0 if row.difference == 0 else float("inf"))


def growth(study) -> dict:
    """{"inherited": [(step, difference)], "added": [...], "floor": [...]} of the latents after each step."""
    chosen = {"inherited": study.rows, "added": study.added}
    found = {
        name: [(row.place.step, row.difference) for row in rows if row.place.probe == "latents" and row.difference is not None]
        for name, rows in chosen.items()
    }
    found["floor"] = [(row.place.step, STANDS_OUT * row.floor) for row in study.rows if row.place.probe == "latents"]
    return found


def _adding(study):
    standing = [probe for probe, row in largest(study.added).items() if row.stands_out]
    if standing:
        yield Sentence(f"a difference is added on the reference's inputs at {', '.join(standing)}")
    inherited = [probe for probe, row in largest(study.rows).items() if row.stands_out and probe not in standing]
    if inherited and study.added:
        yield Sentence(f"inherited, nothing of their own: {', '.join(inherited)}")


def network_globs(study, role: str) -> list[str]:
    """Globs for the modules of a side's sampling networks: those whose forward takes a timestep, else all but encoders and VAE."""
    side = study.lab.sides[role]
    names = list(denoisers(side)) or [n for n in side.components if stage_of("modules", f"{n}/x") == "model_forward"]
    return [f"{name}/*" for name in names]


def module_walk(study, step: int | None = None) -> ModuleWalk | None:
    """Run both networks on the reference's inputs at the first step that stands out, modules recorded; None if one is not live."""
    lab = study.lab
    if (
        study.verdict.verdict == "vacuous"
        or None in lab.sides.values()
        or not all(side.components for side in lab.sides.values())
    ):
        return None
    if step is None:
        standing = (row.place.step for row in study.added if row.stands_out and row.place.probe.startswith("noise_pred"))
        step = next(standing, 0)
    own = lab.traces["reference"]
    lab.said("recording the modules of both networks at one step")
    runs = {role: run_until(study, role, step, lab.put_into(role, own)) for role in ("reference", "candidate")}
    moved = run_until(study, "reference", step, mover(own, 0))
    outputs = {role: module_outputs(trace, step) for role, trace in runs.items()}
    if not all(outputs.values()):
        return None
    floors = {}
    for event, again in zip(outputs["reference"], module_outputs(moved, step), strict=True):
        floors[event.name] = max(relative_l2(event.tensor, again.tensor), own_ulp(event.tensor))
    lab.said("aligning the modules of both networks")
    alignment = align(outputs["reference"], outputs["candidate"])
    first = next((pair for pair in alignment.pairs if pair.difference > STANDS_OUT * floors[pair.reference]), None)
    return ModuleWalk(step, alignment, floors, first)


def pair_table(walk: ModuleWalk | None, most: int = 40) -> Table:
    """The paired modules in execution order, difference beside floor; `most` of them, around the first that departs."""
    columns = ("module of the reference", "module of the candidate", "correlation", "difference", "noise floor", "stands out")
    pairs = [] if walk is None else walk.alignment.pairs
    start = max(0, pairs.index(walk.first) - most // 4) if walk is not None and walk.first is not None else 0
    rows = []
    for pair in pairs[start : start + most]:
        floor = walk.floors[pair.reference]
        stands_out = pair.difference > STANDS_OUT * floor
        rows.append((pair.reference, pair.candidate, pair.similarity, pair.difference, floor, stands_out))
    if len(pairs) > len(rows):
        rows.append((f"{len(rows)} of {len(pairs)} pairs, from the {start + 1}. on", "", None, None, None, None))
    return Table(columns, tuple(rows))


class _Enough(BaseException):
    """Ends a run inside the pipeline's own loop once the step of interest is over; no Exception, so that nobody catches it."""


def run_until(study, role: str, step: int, substitute):
    """One run with the network's modules recorded at `step`, given up after that step."""

    def put(place, own):
        if place.step is not None and place.step >= step and place.probe == "latents":
            raise _Enough
        return substitute(place, own)

    changes = {key: value for entry in study.named for key, value in entry.changes.items()}  # so that shapes agree
    recorder = Recorder(substitute=put, modules=network_globs(study, role), steps=[step])
    with contextlib.suppress(_Enough):
        study.lab.sides[role].run(recorder, changes if role == study.lab.patient else None)
    return recorder.trace


def module_outputs(trace, step: int) -> list[Output]:
    """The recorded outputs of modules at one step, in execution order; a second output or call is named so."""
    found = []
    for place in trace:
        if place.probe.startswith("modules") and place.step in (step, None):
            name = place.module + place.probe.removeprefix("modules").replace("/", " output ")
            name += f" ({place.branch})" if place.branch else ""
            found.append(Output(name + (f" call {place.occurrence + 1}" if place.occurrence else ""), trace[place]))
    return found


def _modules(study, walk: ModuleWalk | None):
    if walk is None:
        if study.verdict.verdict != "vacuous":
            yield Sentence("modules were not compared: that takes two live sides with components")
        return
    if walk.first is None:
        yield Sentence(
            f"on equal inputs at step {walk.step} no paired module of the networks stands out from its floor",
            f"{len(walk.alignment.pairs)} pairs",
        )
    else:
        yield Sentence(
            f"on equal inputs at step {walk.step} the first module to depart is {walk.first.reference}, "
            f"in the candidate {walk.first.candidate}",
            f"{walk.first.difference:.2g} relative",
        )
