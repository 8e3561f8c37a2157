"""The verdict's words: the headline, and what to record when nothing can be compared."""

from __future__ import annotations

from whydiff.causes.table import BY_ID
from whydiff.engine.coverage import not_compared
from whydiff.engine.lab import Lab
from whydiff.places import Place
from whydiff.verdict import Verdict, where


def stage_of_cause(id_: str, place: Place) -> str:
    """Where a cause acts: the table's stage; a cast acts where it is seen."""
    return place.stage if id_ == "undeclared-dtype" or id_ not in BY_ID else BY_ID[id_].stage


def sentence(verdict: Verdict, lab: Lab) -> str:
    """One sentence, as the report's headline has it; a second one counts what was not compared."""
    words = _sentence(verdict, lab)
    left = not_compared(verdict.compared) if verdict.verdict not in ("vacuous", "incomparable") else ""
    return f"{words} Not compared: {left}." if left else words


def _sentence(verdict: Verdict, lab: Lab) -> str:
    names = {role: getattr(lab.case, role).name or (lab.sides[role].name if lab.sides[role] else role) for role in lab.sides}
    both = f"{names['candidate']} and {names['reference']}" if names["candidate"] != names["reference"] else "The two sides"
    tensors = verdict.compared.get("tensors", 0)
    if verdict.verdict == "same":
        return f"{both} agree bit for bit in all {tensors} tensors compared."
    if verdict.verdict == "within_noise" and (known := verdict.compared.get("figures")):
        return f"{both} agree in all recorded figures: of {known} of {tensors} tensors nothing more is known; none stands out from the noise floor."
    if verdict.verdict == "within_noise":
        return f"{both} agree: none of {tensors} tensors stands out from the reference's own noise floor."
    if verdict.verdict == "precision":
        what = ", ".join(dict.fromkeys(entry["what"] for entry in verdict.declared))
        return f"{both} differ only by what was declared ({what}) costs."
    if verdict.verdict == "vacuous":
        return f"Nothing was compared: {verdict.notes[-1] if verdict.notes else 'both sides are the same thing'}; agreement proves nothing."
    if verdict.verdict == "incomparable":
        return verdict.summary
    first = f"first at {where(verdict.first_divergence)}" if verdict.first_divergence else ""
    ids = list(dict.fromkeys(cause.id for cause in verdict.causes))
    open_ends = f"unexplained, here: {where(verdict.unexplained[0])}" if verdict.unexplained else ""
    if ids:
        count = "one cause" if len(ids) == 1 else f"{len(ids)} causes"
        words = f"{both} differ, {first}; {count}: {', '.join(ids)}"
        return f"{words}; {open_ends}." if open_ends else f"{words}."
    return f"{both} differ, {first}; {open_ends or 'unexplained'}."


def stated_settings(lab: Lab, role: str) -> dict:
    """What the case states about a side's settings: call, settings, and the facts behind `defaults`."""
    side = getattr(lab.case, role)
    return lab.default_settings(role) | (side.live.call if side.live else {}) | side.settings


def incomparable(verdict: Verdict, lab: Lab) -> None:
    verdict.verdict = "incomparable"
    kinds = verdict.evidence
    what = " and ".join(f"{role} as {kind}" for role, kind in kinds.items())
    lacking = [role for role, kind in kinds.items() if kind in ("settings", "image")]
    advice = f"record {' and '.join(lacking) or 'both sides'} with `whydiff record`, or give it as `live`"
    verdict.summary = f"The sides have no evidence in common ({what}); {advice}."
