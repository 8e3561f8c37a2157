"""Do the sides' schedulers differ in class or configuration, and does that make the schedules differ?

Both are rebuilt; each must reproduce what its side did. Then the candidate's takes over one key of the reference's at a
time: the keys that are needed to reproduce the reference's schedule are the cause.
"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.schedule import apart, steps
from whydiff.causes.schedule.keys import alternatives, cause_of
from whydiff.causes.schedule.recipe import Recipe, agree, observed, public_classes, recipe
from whydiff.causes.table import BY_ID

# One static shift against another is solved by formula, too, which says more (the expert switch, for one).
_SOLVED = {"shift", "flow_shift"}


def explain(finding: Finding, lab) -> list[Explanation]:
    """The keys in which the two sides' own schedulers differ and that explain the schedule."""
    found = difference(finding, lab)
    if found is None:
        return []
    keys, mine, theirs, fixed = found
    if set(keys) <= _SOLVED and not apart.name_of(keys, mine, theirs)[0].startswith("checkpoint"):
        return []
    return [named(finding, lab, keys, mine, theirs, fixed)]


def explain_rest(finding: Finding, lab) -> list[Explanation]:
    """What no formula named: a shift or an argument that differs, or a side that does not do what its configuration says."""
    found = difference(finding, lab, arguments=True)
    if found is not None:
        keys, mine, theirs, fixed = found
        if not any(k.startswith(apart.ARGUMENT) for k in keys):
            return [named(finding, lab, keys, mine, theirs, fixed)]
        return []
    return variant(finding, lab)


def difference(finding: Finding, lab, arguments: bool = False):
    """(keys, reference's recipe, candidate's, candidate's with those keys), if both recipes reproduce their sides."""
    mine, theirs = recipe(lab, "reference"), recipe(lab, "candidate")
    if mine is None or theirs is None:
        return None
    seen, probe = {role: observed(lab, role) for role in ("reference", "candidate")}, [finding.probe]
    if not agree(mine.schedule(), seen["reference"], probe) or not agree(theirs.schedule(), seen["candidate"], probe):
        return None
    keys = apart.smallest(mine, theirs, lambda made: agree(made.schedule(), seen["reference"], probe))
    if keys is None or (not arguments and any(k.startswith(apart.ARGUMENT) for k in keys)):
        return None
    return keys, mine, theirs, apart.mixed(theirs, mine, keys)


def named(finding: Finding, lab, keys, mine: Recipe, theirs: Recipe, fixed: Recipe) -> Explanation:
    return apart.explanation(
        keys, mine, theirs, covers=covered(finding, lab, fixed, theirs),
        experiment=f"rebuilt the candidate's scheduler with the reference's {', '.join(keys)} and computed {finding.probe} again: "
                   "equals the reference's; without, it equals the candidate's")  # fmt: skip


def covered(finding: Finding, lab, fixed: Recipe, theirs: Recipe) -> set[str]:
    """Further probes that the same keys explain: the rest of the schedule, and the updates if nothing else is wrong there."""
    made, unfixed = fixed.schedule(), theirs.schedule()
    seen, own = observed(lab, "reference"), observed(lab, "candidate")
    probes = {name for name in seen if agree(made, seen, [name]) and name in own and agree(unfixed, own, [name])}
    if "timesteps" in probes and seen["timesteps"].dtype != own["timesteps"].dtype:
        probes.add("model_input/timestep")  # real timesteps put into a list of integers are cut
    if lab.patient is not None:
        probes |= steps.repairs(lab, fixed, theirs)
    return probes - {finding.probe}


def variant(finding: Finding, lab) -> list[Explanation]:
    """One side does what its configuration says, and the other what that configuration with one thing changed would say."""
    seen = {role: observed(lab, role) for role in ("reference", "candidate")}
    for role, other in (("reference", "candidate"), ("candidate", "reference")):
        own = recipe(lab, role)
        if own is None or not agree(own.schedule(), seen[role], [finding.probe]):
            continue
        if agree(own.schedule(), seen[other], [finding.probe]):
            return []
        found = list(reproducing(own, seen[other], finding.probe))
        if found:
            return [_variant(finding, lab, own, role, other, found)]
    return []


def reproducing(own: Recipe, seen: dict, probe: str):
    """(key, value) of each change of a recipe, one at a time, that gives an observed schedule."""
    for key, value in alternatives(own):
        if agree(own.with_config(**{key: value}).schedule(), seen, [probe]):
            yield key, value
    for name, kind in public_classes().items():
        if kind is not own.kind and agree(own.with_kind(kind).schedule(), seen):
            yield "class", name  # a whole schedule: among so many classes, one list alone is soon met by chance


def _variant(finding: Finding, lab, own: Recipe, role: str, other: str, found: list) -> Explanation:
    key, value = found[0]
    id_ = cause_of(key)
    made = own.with_kind(public_classes()[value]) if key == "class" else own.with_config(**{key: value})
    said = recipe(lab, other)
    now = own.name if key == "class" else own.config.get(key, own.default(key))
    also = f", although its own configuration says {apart.spelled(said.config.get(key))}" if said and key in said.config else ""
    pair = {role: apart.plain(now), other: apart.plain(value)}
    covers = {name for name in observed(lab, other) if agree(made.schedule(), observed(lab, other), [name])} - {finding.probe}
    return Explanation(
        id=id_, equivalent=list(dict.fromkeys(cause_of(k) for k, _ in found[1:] if cause_of(k) != id_)), departs=other,
        stage=BY_ID[id_].stage, explained=1.0,
        statement=f"{other}'s {finding.probe} are those of {key} {apart.spelled(value)}; the {role}'s are those of {apart.spelled(now)}{also}",
        relation={"kind": "scheduler_config", "keys": [key]} | {r: {key: pair[r]} for r in ("reference", "candidate")},
        experiment=f"rebuilt the {role}'s scheduler with {key} {apart.spelled(value)} and nothing else changed: its {finding.probe} equal "
                   f"the {other}'s",
        fix=f"use {key} {apart.spelled(now)} where the {other} makes its schedule",
        covers=covers)  # fmt: skip


