"""Looking inside a network, an encoder or a decoder whose output differs: which modules make it, and is that all of it?

Modules are looked at in one step. With what they put out repaired in every step, a step that still stands out holds
another cause, in other modules.
"""

from __future__ import annotations

import dataclasses

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.explain import explain as explain_inside
from whydiff.causes.inside.inside import Inside
from whydiff.causes.latents.sign import explain_sign
from whydiff.engine.inside import inside
from whydiff.engine.lab import Lab, filler
from whydiff.engine.rows import Row, added_rows
from whydiff.evidence.recording.calls import tensors_in
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, family

# Probes that a network puts out, so that the cause of a difference may lie in one of its modules.
LOOKED_INTO = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds", "noise_pred_text",
               "noise_pred_uncond", "decoded", "image_latents", "image_embeds")  # fmt: skip


@dataclasses.dataclass
class Looked:
    """What was found inside. `causes`: of the modules at the finding's step; `rest`: what beside them stays unexplained there;
    `later`: what differs at a later step by itself, each with its causes."""

    causes: list[Explanation] = dataclasses.field(default_factory=list)
    rest: list[Finding] = dataclasses.field(default_factory=list)
    later: list[tuple[Finding, list[Explanation]]] = dataclasses.field(default_factory=list)


def look_inside(finding: Finding, lab: Lab, changes: dict) -> Looked:
    """Find the modules that make an unexplained difference of a network, an encoder or a decoder, and what they do differently.

    Without a cause, `finding.inside` is the first such module.
    """
    seen = all(trace.at("noise_pred_text") for trace in lab.traces.values())  # else guidance is the first place behind the network
    if lab.apart or (family(finding.probe) not in LOOKED_INTO and (finding.probe != "noise_pred" or seen)) or finding.place not in finding.candidate:
        return Looked()
    stage = {"noise_pred": "model_forward", "image_latents": "vae"}.get(finding.probe, finding.place.stage)
    culprits, repaired = inside(lab, finding.place.step, changes, stage)
    if not culprits:
        return Looked()
    causes, left = explain_inside(culprits, finding, lab)
    for entry in [entry for entry in left if causes]:
        if around := turned(entry, finding, lab):
            causes, left = causes + around, [other for other in left if other is not entry]
    finding.locate((culprits if causes else left)[0])
    if causes and repaired is not None and not left:
        causes[0].covers |= closed(lab, repaired, stage)
    found = Looked(causes, [dataclasses.replace(finding, inside=entry.to_dict(), culprit=entry) for entry in left[:1]] if causes else [])
    if repaired is not None:
        with lab.as_far_as_runs_allow("looking for further causes at later steps"):
            found.later = later(finding, lab, culprits, changes, {cause.id for cause in causes})
    return found


def turned(entry: Inside, finding: Finding, lab: Lab) -> list[Explanation]:
    """Does the network's own code reverse the sign of what its modules, repaired, make?"""
    made = {role: tensors_in(call.output)[:1] if call else [] for role, call in entry.calls.items()}
    if "/" in entry.name or entry.why != "output" or finding.place.stage != "model_forward" or not all(made.values()):
        return []
    (mine,), (theirs,) = made["reference"], made["candidate"]
    if mine.shape != theirs.shape:
        return []
    place = finding.place
    part = dataclasses.replace(finding, places=[place], reference={place: mine.cpu()}, candidate={place: theirs.cpu()})
    part.difference = entry.difference
    return explain_sign(part, lab)


def later(finding: Finding, lab: Lab, culprits: list[Inside], changes: dict, known: set[str]) -> list[tuple[Finding, list[Explanation]]]:
    """The first step that still stands out once the modules found in the finding's own step are repaired in all steps, and what
    explains it: other modules, and causes that are not known yet."""
    names = {culprit.name for culprit in culprits}
    steps = {place.step for place in finding.places} - {finding.place.step}
    if None in steps or not steps or any("/" not in name for name in names) or any(c.names["reference"] != c.name for c in culprits):
        return []
    standing = still_standing(finding, lab, names, changes)
    if not standing:
        return []
    there = [culprit for culprit in inside(lab, standing[0].place.step, changes, "model_forward")[0]
             if not any(culprit.name == name or culprit.name.startswith(f"{name}.") for name in names)]  # fmt: skip
    if not there:
        return []
    part = dataclasses.replace(finding, places=[row.place for row in standing], difference=standing[0].difference, floor=standing[0].floor)
    causes, left = explain_inside(there, part, lab)
    part.locate((there if causes else left)[0])
    return [] if causes and {cause.id for cause in causes} <= known else [(part, causes)]


def still_standing(finding: Finding, lab: Lab, names: set[str], changes: dict) -> list[Row]:
    """Rows of a prediction that stand out at later steps although these modules put out what the reference's do."""
    own = lab.traces["reference"]
    lab.said("repairing the modules that were found in all steps")
    made = lab.run("reference", substitute=lab.put_into("reference", own), modules=sorted(names))
    put = lab.put_into("candidate", own, supplied=lab.settled_arguments)

    def substitute(place: Place, tensor):
        if place.probe.startswith("modules"):
            return made.events[place].tensor if place in made else None
        return put(place, tensor)

    run = lab.run("candidate", substitute=substitute, modules=sorted(names), changes=changes, fill=filler(own, lab.settled_arguments))
    return [row for row in added_rows(lab, run) if row.stands_out and row.place in finding.places and row.place.step != finding.place.step]


def closed(lab: Lab, repaired: Trace, stage: str) -> set[str]:
    """Probes of a stage's networks that no longer stand out once their modules are repaired."""
    rows = [row for row in added_rows(lab, repaired) if family(row.place.probe) in LOOKED_INTO and row.place.stage == stage]
    return {row.place.probe for row in rows} - {row.place.probe for row in rows if row.stands_out}
