"""Where does the first difference appear, who adds to it, and which module of the network is the first to depart?"""

from __future__ import annotations

from whydiff.audits.module_tree import pair_figures, tree_of
from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.engine import modules
from whydiff.engine.modules import ModuleWalk
from whydiff.engine.repaired import largest
from whydiff.evidence.floor import STANDS_OUT
from whydiff.verdict import where

NAME = "first_divergence"
QUESTION = "Where does the first difference appear, which stages add to it, and which module is the first to depart?"


def audit(study, step: int | None = None) -> AuditResult:
    """Inherited against added, probe by probe; then the modules of the network at `step` (the first that stands out),
    paired by what they put out."""
    walk = module_walk(study, step)
    first = study.verdict.first_divergence
    findings = []
    if study.verdict.verdict == "vacuous":
        findings.append(Sentence("nothing that could make a difference differs between the sides, so agreement proves nothing"))
    elif first:
        findings.append(Sentence(f"the first difference is at {where(first)}"))
    else:
        findings.append(Sentence("no place stands out from the noise floor"))
    findings += [*_adding(study), *_modules(study, walk)]
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
        {"profile": profile(study), "strip": tuple(strip(study)), "growth": growth(study), "modules": walk, "pairs": pair_table(walk),
         "tree": tree_of(walk)},
        {} if walk is None else {"modules": pair_figures(walk), "step": walk.step},
    )


def profile(study) -> tuple[list[dict], str]:
    """Where in its tensor the first difference sits (the first unexplained one, if there is any), and its place in words."""
    verdict = study.verdict
    for entry in (*verdict.unexplained, verdict.first_divergence or {}):
        if entry.get("profile"):
            return entry["profile"], where(entry)
    return [], ""


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
        own = added.get(probe)
        yield probe, row.floors, None if own is None else own.floors, probe == first


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


def module_walk(study, step: int | None = None) -> ModuleWalk | None:
    """The modules of both networks on the reference's inputs, at the first step that stands out; None if one cannot be looked into."""
    if study.verdict.verdict == "vacuous":
        return None
    if step is None:
        standing = (row.place.step for row in study.added if row.stands_out and row.place.probe.startswith("noise_pred"))
        step = next(standing, 0)
    changes = {key: value for entry in study.named for key, value in entry.changes.items()}  # so that shapes agree
    return modules.module_walk(study.lab, step, changes)


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
        if not walk.itself:
            yield Sentence(f"it received other inputs, so the code of {walk.culprit} in the candidate, around it, makes the difference")
