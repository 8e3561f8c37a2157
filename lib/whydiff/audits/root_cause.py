"""What has to be repaired, in which order, and by which experiment is each cause known?"""

from __future__ import annotations

from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.start_here import image_pair
from whydiff.verdict import share, where

NAME = "root_cause"
QUESTION = "Which causes have to be repaired, how much of the picture does each explain, and by which experiment is it known?"


def audit(study) -> AuditResult:
    """The verdict's causes, those that move the picture most first; what no experiment explains stays in the list."""
    verdict = study.verdict
    ranked = sorted(verdict.causes, key=lambda c: -(c.image_effect if c.image_effect is not None else float("-inf")))
    # The words keep pipeline order: which cause moves the picture most is a measurement.
    findings = [Sentence(f"{cause.id} at {where(cause.to_dict())}: {cause.statement}", _share(cause)) for cause in verdict.causes]
    findings += [Sentence(f"unexplained, here: {where(entry)}") for entry in verdict.unexplained]
    for what in dict.fromkeys(entry["what"] for entry in verdict.declared):
        findings.append(Sentence(f"declared, and not called a bug: {what}"))
    if not findings:
        findings = [
            Sentence(
                {
                    "vacuous": "nothing was really compared, so there is nothing to explain",
                    "incomparable": verdict.summary.rstrip("."),
                }.get(verdict.verdict, "there is nothing to repair")
            )
        ]
    rows = [
        (
            i,
            cause.id,
            where(cause.to_dict()),
            cause.statement,
            cause.experiment,
            cause.explained,
            cause.image_effect,
            cause.departs,
            cause.fix,
        )
        for i, cause in enumerate(ranked, 1)
    ]
    return AuditResult(
        NAME,
        QUESTION,
        verdict.verdict,
        tuple(findings),
        ("", "cause", "where", "what", "experiment", "explained", "share of the picture", "departs", "repair"),
        tuple(rows),
        {"effects": tuple((cause.id, cause.explained, cause.image_effect) for cause in ranked), "image": image_pair(study)},
    )


def _share(cause) -> str:
    return (
        ""
        if cause.image_effect is None
        else f"{share(cause.image_effect)} of the picture's difference goes when it alone is repaired"
    )
