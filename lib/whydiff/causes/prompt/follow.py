"""What follows from a cause in prompt encoding: probes that differ for the same reason, and are no cause of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import tokens
from whydiff.errors import Trouble
from whydiff.places import Place, family

EMBEDS = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")

Experiment = Callable[[Finding, object], list[Explanation]]


def first(experiments: Iterable[Experiment], finding: Finding, lab) -> list[Explanation]:
    """The first experiment that explains a finding, with the probes of its kind that it explains, too.

    An experiment that a side cannot run (Trouble) is noted, and the next one is tried.
    """
    for experiment in experiments:
        found = _attempt(experiment, finding, lab)
        if found:
            found[0].covers |= {probe for probe in _siblings(finding, lab) if _same(found[0], experiment, _finding(finding, lab, probe), lab)}
            return found
    return []


def _attempt(experiment: Experiment, finding: Finding, lab) -> list[Explanation]:
    try:
        return experiment(finding, lab)
    except Trouble as trouble:
        lab.notes.append(f"an experiment at {finding.probe} could not be made: {trouble}")
        return []


def _siblings(finding: Finding, lab) -> list[str]:
    """Other probes of the finding's kind: a further encoder's ids, the negative prompt's embeddings."""
    kind = family(finding.probe)
    alike = [p for p in lab.traces["reference"].probes() if family(p) == kind or (kind in EMBEDS and p in EMBEDS)]
    return [p for p in alike if p != finding.probe]


def _same(explanation: Explanation, experiment: Experiment, finding: Finding | None, lab) -> bool:
    if finding is None:
        return False
    again = _attempt(experiment, finding, lab)
    keys = ("side", "reference", "candidate") if explanation.relation.get("kind") in ("layers", "pad_token") else ("side",)
    return bool(again) and again[0].id == explanation.id and all(again[0].relation.get(k) == explanation.relation.get(k) for k in keys)


def _finding(finding: Finding, lab, probe: str) -> Finding | None:
    """The finding at another probe, where what each side makes of equal inputs stands out there, too."""
    reference, candidate, apart = {}, {}, []
    for place in lab.traces["reference"].at(probe):
        mine, theirs = lab.own_value("reference", place), lab.own_value("candidate", place)
        if mine is None or theirs is None or place.step is not None:
            continue
        reference[place] = mine
        if mine.shape == theirs.shape:
            candidate[place] = theirs
        if mine.shape != theirs.shape or lab.stands_out(place, mine, theirs):
            apart.append(place)
    if not apart or (apart[0] in candidate) != (finding.place in finding.candidate):
        return None
    return Finding(probe, apart, reference, candidate, None, max(lab.floor.of_stage(p, reference[p]) for p in apart))


def from_ids(finding: Finding, lab, pairs) -> set[str]:
    """Masks and embeddings that differ because token ids do, although the ids themselves are put right.

    Rows of other lengths cannot be put right at all; and where a mask is made beside the ids, it (and what is trimmed by it)
    follows the side's own tokenizer. `pairs` are the rows that differ.
    """
    covered: set[str] = set()
    mask = finding.probe.replace("input_ids", "attention_mask")
    lengths = any(len(a) != len(b) for a, b in pairs) or finding.place not in finding.candidate
    masked = any(lab.traces[role].at(mask) for role in lab.traces)
    if lengths:
        covered |= lengthened(lab)
    if lengths or (masked and any(len(tokens.body(a)) != len(tokens.body(b)) for a, b in pairs)):
        covered |= {mask, *EMBEDS}
    return covered


def lengthened(lab) -> set[str]:
    """Inputs of the network whose shapes differ between the sides: those that have one row per token."""
    own = lab.traces["reference"]
    values: dict[Place, object] = {p: lab.own_value("candidate", p) for p in own if p.probe.startswith("model_input")}
    return {p.probe for p, value in values.items() if value is not None and value.shape != own[p].shape}
