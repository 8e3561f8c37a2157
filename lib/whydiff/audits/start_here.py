"""Are the two outputs different, where does it begin, and what is it?"""

from __future__ import annotations

import pathlib

from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.engine.repaired import largest, size
from whydiff.evidence.case import load_case
from whydiff.places import STAGES
from whydiff.verdict import where

NAME = "start_here"
QUESTION = "Are the two outputs different, where does the difference begin, and what causes it?"


def audit(study) -> AuditResult:
    """The whole verdict, stage by stage."""
    verdict = study.verdict
    findings = []
    if verdict.first_divergence:
        findings.append(Sentence(f"the first difference is at {where(verdict.first_divergence)}"))
    findings += [Sentence(f"{cause.statement} ({cause.id})") for cause in verdict.causes]
    findings += [Sentence(f"unexplained, here: {where(entry)}") for entry in verdict.unexplained]
    if not findings:
        findings = [Sentence(verdict.summary.rstrip("."))]
    return AuditResult(
        NAME,
        QUESTION,
        verdict.verdict,
        tuple(findings),
        ("stage", "tensors", "largest difference", "at", "stage itself adds", "noise floor", "causes"),
        tuple(stage_rows(study)),
        {"image": image_pair(study)},
    )


def stage_rows(study):
    """One row for each stage that has tensors: what whole runs show, and what the stage adds on equal inputs."""
    for stage in STAGES:
        rows = [row for row in study.rows if row.place.stage == stage]
        causes = ", ".join(cause.id for cause in study.verdict.causes if cause.stage == stage)
        if not rows:
            if causes:
                yield stage, 0, None, "", None, None, causes
            continue
        worst = max(largest(rows).values(), key=size)
        added = [row for row in study.added if row.place.stage == stage]
        most = max(added, key=size, default=None)
        yield (
            stage,
            len(rows),
            worst.difference if worst.difference is not None else worst.why,
            str(worst.place),
            None if most is None else most.difference,
            worst.floor if most is None else most.floor,
            causes,
        )


def cases_in(folder) -> Table:
    """The cases of a folder: file, title, question, and the verdict each expects."""
    rows = []
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        case = load_case(path)
        expected = "" if case.expect is None else ", ".join([case.expect.verdict or "", *(case.expect.causes or [])])
        rows.append((path.name, case.title, case.question, expected))
    return Table(("case", "title", "question", "expected"), tuple(rows))


def image_pair(study) -> dict:
    """Both pictures, (B, H, W, C) or (B, F, H, W, C) in [0, 1]; None where a side made none."""
    traces = {"reference": study.reference, "candidate": study.candidate}
    return {role: None if trace is None else trace.get("image") for role, trace in traces.items()}
