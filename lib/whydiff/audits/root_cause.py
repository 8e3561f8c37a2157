"""What has to be repaired, in which order, and by which experiment is each cause known?"""

from __future__ import annotations

import dataclasses

from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.start_here import image_pair
from whydiff.engine.repaired import largest
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
        {"effects": tuple((cause.id, cause.explained, cause.image_effect) for cause in ranked), "image": image_pair(study),
         "undone": next(((repair.changes, repair.undone) for repair in reversed(list(repairs(study)))), ((), ""))},
    )


@dataclasses.dataclass(frozen=True)
class Repair:
    """A whole run with one cause undone, or all. `changes`: (probe, difference over floor before, after or None where the
    reference's values were put in), as `views.before_after` draws them; `picture`: what the candidate makes then."""

    undone: str  # the cause's id, or "all N causes"
    changes: tuple[tuple[str, float, float | None], ...]
    picture: object | None
    equal: bool  # nothing is left: every probe equals the reference's bit for bit
    agrees: bool  # nothing that is left stands out


def repairs(study):
    """Each cause undone alone, as far as that was run, in pipeline order; at last all at once, where there are several."""
    whole = largest([row for row in study.rows if not row.place.probe.startswith("modules")])
    causes = [entry for entry in study.named if entry.explanations]
    for entry in causes:
        if entry.repaired is not None:
            yield _repair(", ".join(dict.fromkeys(e.id for e in entry.explanations)), whole, entry.repaired)
    if study.lab.repaired_all is not None and len(causes) > 1:
        yield _repair(f"all {len(causes)} causes", whole, study.lab.repaired_all)


def _repair(undone: str, whole: dict, run) -> Repair:
    then = {row.place.probe: row for row in run.rows}
    changes = [(probe, row.floors, None if probe in run.put else then[probe].floors) for probe, row in whole.items()
               if probe in run.put or probe in then]  # fmt: skip
    changes = tuple(entry for entry in changes if entry[1] or entry[2] or entry[2] is None)  # what was equal and is has nothing to tell
    return Repair(undone, changes, run.picture, all(row.equal for row in run.rows), not any(row.stands_out for row in run.rows))


def _share(cause) -> str:
    return (
        ""
        if cause.image_effect is None
        else f"{share(cause.image_effect)} of the picture's difference goes when it alone is repaired"
    )


def pictures(study, names: dict | None = None) -> list[tuple[str, str, object]]:
    """(title, words, picture) from the candidate's over each repair to the reference's, as `views.repaired_pictures` draws them."""
    image, effects = image_pair(study), {cause.id: cause.image_effect for cause in study.verdict.causes}
    names = names or {role: role for role in image}
    shown = [(f"{names['candidate']}, as it runs", "", image["candidate"])]
    for repair in repairs(study):
        effect = effects.get(repair.undone)
        moved = "" if effect is None else f"{share(-effect)} further away" if effect <= -0.005 else f"{share(effect)} nearer"
        shown.append((f"{repair.undone} undone", "equal" if repair.equal else "within noise" if repair.agrees else moved, repair.picture))
    return [*shown, (names["reference"], "", image["reference"])]
