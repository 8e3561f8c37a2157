"""Embeddings that were kept from a request before the first one: is a prompt remembered by its spelling?"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.evidence.traces.trace import Trace

# The same prompt to every tokenizer that strips its text, and another key to a cache.
RESPELT = ("{} ", " {}", "{}  ")
_OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(finding: Finding, lab) -> list[Explanation]:
    """`stale-prompt-cache`: spelt with one more blank, the prompt gives one side other embeddings, namely the other side's."""
    if None in lab.sides.values() or None in lab.traces.values() or any(p.step is not None for p in finding.places):
        return []
    prompts = [side.call.get("prompt") for side in lab.sides.values()]
    if not isinstance(prompts[0], str) or prompts[0] != prompts[1]:
        return []
    between = lab.between.get("reference"), lab.between.get("candidate")
    if None in between or not _agree(finding.places, lab, *between):
        return []  # with another prompt the sides still differ: not what is kept for this one
    for form in RESPELT:
        changes = {"prompt": form.format(prompts[0])}
        runs = {role: lab.run(role, changes=changes) for role in lab.sides}
        if not _agree(finding.places, lab, *runs.values()):
            return []
        moved = {role: not _agree(finding.places, lab, lab.traces[role], runs[role]) for role in runs}
        if sum(moved.values()) == 1:
            role = next(role for role in moved if moved[role])
            kept = [p for p in lab.traces["reference"] if p.stage == finding.place.stage and p.step is None
                    and not _agree([p], lab, *lab.traces.values()) and _agree([p], lab, *runs.values())]  # fmt: skip
            probes = " and ".join(dict.fromkeys(p.probe for p in kept))
            return [Explanation(
                id="stale-prompt-cache", stage="state_leakage", departs=role, explained=1.0,
                statement=f"{role} uses {probes} of an earlier request that had the same prompt: they are not those of its own conditions",
                relation={"kind": "stale", "side": role, "probe": finding.probe},
                experiment=f"asked both sides for {changes['prompt']!r}, the same prompt spelt otherwise: the {role}'s {probes} become the "
                           f"{_OTHER[role]}'s, which stay as they were",
                fix="key the cache on everything that its content depends on (the negative prompt, too), or clear it between requests",
                covers={p.probe for p in kept})]  # fmt: skip
    return []


def _agree(places, lab, one: Trace, other: Trace) -> bool:
    return all(p in one and p in other and one[p].shape == other[p].shape and not lab.differs_between_runs(p, one[p], other[p])
               for p in places)  # fmt: skip
