"""Is it another text? A side is given the text in other words, and run until its tokenizer has spoken."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import texts

OTHER = {"reference": "candidate", "candidate": "reference"}


def other_prompt(finding: Finding, lab) -> list[Explanation]:
    """`prompt`: the sides were asked for different texts, and the patient makes the other side's ids of the other's text."""
    for setting in texts.SETTINGS:
        prompts = {role: texts.given(lab, role, setting) for role in ("reference", "candidate")}
        if prompts["reference"] == prompts["candidate"]:
            continue
        words = setting.replace("_", " ")
        statement = f"candidate was given the {words} {prompts['candidate']!r}, the reference {prompts['reference']!r}"
        relation = {"kind": "prompt", "setting": setting, **prompts}
        fix = f"pass the {words} {prompts['reference']!r} to the candidate"
        if lab.patient is None:
            if None in prompts.values():
                continue
            return [Explanation(id="prompt", statement=statement, relation=relation, explained=1.0, departs="unknown", fix=fix,
                                experiment="compared what each side says it was asked for, and the ids it made of that")]  # fmt: skip
        target = prompts[OTHER[lab.patient]]
        spelled = lab.sides[lab.patient].spelling(setting)
        if spelled is not None and _gives(finding, lab, lab.patient, {spelled: target}):
            return [Explanation(
                id="prompt", statement=statement, relation=relation, explained=1.0, departs="unknown", fix=fix,
                experiment=f"ran the {lab.patient} with the other side's {words}: the token ids agree", changes={spelled: target})]  # fmt: skip
    return []


def cleaned(finding: Finding, lab) -> list[Explanation]:
    """`prompt-cleaning`: a side that is given the prompt lower-cased, folded, ... makes the ids that the other makes of it as it is."""
    if not texts.equally_asked(lab):
        return []
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        for setting in texts.SETTINGS if side is not None else ():
            prompt, spelled = texts.given(lab, role, setting), side.spelling(setting)
            for names, changed in texts.cleanings(prompt) if prompt and spelled is not None else ():
                if not _gives(finding, lab, role, {spelled: changed}):
                    continue
                rule = ", ".join(names)
                return [Explanation(
                    id="prompt-cleaning", departs="unknown", explained=1.0,
                    statement=f"the {OTHER[role]} encodes the {setting.replace('_', ' ')} {rule} ({changed!r}), the {role} as it is",
                    relation={"kind": "cleaning", "setting": setting, "rules": list(names), "side": OTHER[role]},
                    experiment=f"gave the {role} the text {rule}: its token ids are the {OTHER[role]}'s",
                    fix=f"clean prompts in the same way on both sides: {rule}",
                    changes={spelled: changed} if role == lab.patient else {})]  # fmt: skip
    return []


def read_back(finding: Finding, lab) -> list[Explanation]:
    """`prompt`, where it shows in the ids alone: decoded, they are a text of which the other side makes the same ids."""
    reader = texts.tokenizer(lab, finding.probe)
    if reader is None:
        return []
    for role in ("candidate", "reference"):
        side = lab.sides[role]
        if side is None:
            continue
        other = OTHER[role]
        for place in finding.places:
            held = _ids(finding, lab, other, place)
            if held is None or len(held) != 1:
                continue
            text = reader.decode(held[0], skip_special_tokens=True).strip()
            own = _ids(finding, lab, role, place)
            mine = "" if own is None else reader.decode(own[0], skip_special_tokens=True).strip()
            for setting in texts.SETTINGS:
                spelled = side.spelling(setting)
                if spelled is None or not _gives(finding, lab, role, {spelled: text}):
                    continue
                plain = [" ".join("".join(c if c.isalnum() else " " for c in t.casefold()).split()) for t in (text, mine)]
                return [Explanation(
                    id="prompt", departs="unknown", explained=1.0,
                    statement=f"the {other} encodes the text {text!r}, the {role} {mine!r}",
                    relation={"kind": "prompt", "setting": setting, other: text, role: mine},
                    experiment=f"decoded the {other}'s token ids and gave the {role} that text: it makes the same ids",
                    fix=f"look for where the {setting.replace('_', ' ')} changes before it is tokenised",
                    equivalent=["prompt-cleaning"] if plain[0] == plain[1] else [],
                    changes={spelled: text} if role == lab.patient else {})]  # fmt: skip
    return []


def agree_without(finding: Finding, lab, pad: int) -> str | None:
    """Do the texts' ids agree once the prompt no longer has the pad token's characters? The experiment in words; "" where no
    pair of live sides can be asked; None where they still differ."""
    from whydiff.causes.prompt import tokens

    reader = texts.tokenizer(lab, finding.probe)
    prompt = texts.given(lab, "reference", "prompt")
    if reader is None or None in lab.sides.values() or not isinstance(prompt, str):
        return ""
    word = reader.decode([pad]).strip()
    if not word or word not in prompt:
        return None
    kept = {}
    for role, side in lab.sides.items():
        spelled = side.spelling("prompt")
        if spelled is None:
            return ""
        trace = _until_ids(finding, lab, role, {spelled: prompt.replace(word, "")})
        kept[role] = [tokens.body(row) for p in finding.places if p in trace for row in trace[p].tolist()]
    ends = {reader.eos_token_id, pad}
    kept = {role: [[i for i in row if i not in ends] for row in rows] for role, rows in kept.items()}
    return f"ran both sides without {word!r} in the prompt: the ids of their texts agree" if kept["reference"] == kept["candidate"] else None


def _until_ids(finding: Finding, lab, role: str, changes: dict):
    last = max(finding.places, key=lambda p: p.occurrence)
    return texts.run_until(lab, role, last, changes=changes)


def _gives(finding: Finding, lab, role: str, changes: dict) -> bool:
    """Does one side, with other call arguments, make the other side's ids at every place of the finding?"""
    again = _until_ids(finding, lab, role, changes)
    targets = {p: finding.candidate.get(p, lab.own_value("candidate", p)) if role == "reference" else finding.reference[p]
               for p in finding.places}  # fmt: skip
    others = [p for p in again if p.probe == finding.probe and p not in targets and p in lab.traces[OTHER[role]]]
    return all(p in again and again[p].shape == t.shape and torch.equal(again[p], t) for p, t in targets.items() if t is not None) and all(
        torch.equal(again[p], lab.traces[OTHER[role]][p]) for p in others)  # fmt: skip


def _ids(finding: Finding, lab, role: str, place):
    tensor = finding.reference.get(place) if role == "reference" else finding.candidate.get(place, lab.own_value("candidate", place))
    return None if tensor is None or tensor.dim() != 2 else tensor.tolist()
