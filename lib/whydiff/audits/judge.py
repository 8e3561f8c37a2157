"""From a study to an audit's word: what of the verdict lies in the audit's part of the pipeline?"""

from __future__ import annotations

from collections.abc import Callable

from whydiff.audits.result import Sentence
from whydiff.places import Place, family
from whydiff.verdict import Cause, where

Concerns = Callable[[dict], bool]


def lies_in(*, stages=(), probes=(), ids=()) -> Concerns:
    """True for an entry (of a cause, or of something unexplained) in one of the stages, probe families, or cause ids."""

    def concerns(entry: dict) -> bool:
        return entry.get("stage") in stages or family(entry.get("probe") or "") in probes or entry.get("id") in ids

    return concerns


def causes_in(study, concerns: Concerns) -> list[Cause]:
    return [cause for cause in study.verdict.causes if concerns(cause.to_dict())]


def unexplained_in(study, concerns: Concerns) -> list[dict]:
    return [entry for entry in study.verdict.unexplained if concerns(entry)]


def rows_in(rows, concerns: Concerns) -> list:
    """Rows (of `study.rows` or `study.added`) at the audit's places."""
    return [row for row in rows if concerns(row.place.to_dict())]


def judged(study, concerns: Concerns, rows_of: Concerns | None = None) -> str:
    """The audit's word. `different` needs a cause or something unexplained here; what is inherited is not held against
    this part of the pipeline: it is judged by what it adds on equal inputs, where that was measured."""
    word = study.verdict.verdict
    if word in ("vacuous", "incomparable"):
        return word
    if causes_in(study, concerns) or unexplained_in(study, concerns):
        return "different"
    rows_of = rows_of or concerns
    whole = rows_in(study.rows, rows_of)
    if any(rows_of(entry) for entry in study.verdict.declared):
        return "precision"
    if not whole:
        return "incomparable"
    if all(row.equal for row in whole):
        return "same"
    if not any(row.stands_out for row in whole):
        return "within_noise"
    added = rows_in(study.added, rows_of)
    if not added:
        return "incomparable"  # everything here inherits a difference, and nothing could be run on equal inputs
    elsewhere = {cause.probe for cause in study.verdict.causes}  # named, and held against the stage where they act
    added = [row for row in added if row.place.probe not in elsewhere]
    if any(row.stands_out for row in added):
        return "different"
    return "same" if all(row.equal for row in added) else "within_noise"


def sentences(study, concerns: Concerns, rows_of: Concerns | None = None) -> list[str]:
    """The causes and open ends of this part, and whether what else differs here is inherited."""
    found = [Sentence(f"{cause.statement} ({cause.id})") for cause in causes_in(study, concerns)]
    for entry in unexplained_in(study, concerns):
        figures = (
            "" if entry.get("difference") is None else f"{entry['difference']:.3g} relative, floor {entry['noise_floor']:.2g}"
        )
        found.append(Sentence(f"unexplained, here: {where(entry)}", figures))
    if study.verdict.verdict == "vacuous":
        return [*found, Sentence("nothing that could make a difference differs between the sides, so agreement proves nothing")]
    if found:
        return found
    rows_of = rows_of or concerns
    whole, added = rows_in(study.rows, rows_of), rows_in(study.added, rows_of)
    declared = [entry for entry in study.verdict.declared if rows_of(entry)]
    for what in dict.fromkeys(entry["what"] for entry in declared):
        found.append(Sentence(f"what differs here is what the declared {what} costs"))
    seen = {row.place.probe for row in added if row.stands_out}
    elsewhere = [cause for cause in study.verdict.causes if cause.probe in seen]
    for cause in elsewhere:
        found.append(Sentence(f"{cause.id}, which acts in {cause.stage}, is first seen here, at {cause.probe}"))
        added = [row for row in added if row.place.probe != cause.probe]
    if not whole:
        found.append(Sentence("neither side's recording has a tensor of this part in common with the other's"))
    elif not any(row.stands_out for row in whole):
        exact = "all equal bit for bit" if all(row.equal for row in whole) else ""
        found.append(Sentence(f"nothing here stands out from the noise floor: {names(whole)}", exact))
    elif added and not any(row.stands_out for row in added):
        what, nothing = ("what else", "nothing else") if elsewhere else ("what", "nothing")
        words = f"{what} differs here is inherited: on the reference's inputs this part adds {nothing} beyond the noise floor"
        found.append(Sentence(words))
    elif not declared:
        found.append(Sentence("what differs here follows earlier differences; nothing could be run on equal inputs to tell more"))
    return found


def names(rows) -> str:
    """The probes of rows, each once, in walking order."""
    return ", ".join(dict.fromkeys(row.place.probe for row in rows))


def tensors(study, place: Place):
    """Reference's and candidate's own tensor at a place in one shape, or None."""
    lab = study.lab
    traces = lab.traces["reference"], lab.traces["candidate"]
    if any(trace is None or place not in trace for trace in traces):
        return None
    return lab.pair(place, traces[1][place])


def both(study, probe: str, step: int | None = None) -> dict:
    """{"reference": tensor or None, "candidate": tensor or None} at the first place of a probe."""
    found = {}
    for role, trace in study.lab.traces.items():
        places = [p for p in trace.at(probe) if step is None or p.step == step] if trace is not None else []
        found[role] = trace[places[0]] if places else None
    return found
