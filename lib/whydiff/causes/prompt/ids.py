"""Do both text encoders read the same tokens? Which rule turns one list of ids into the other?

Everything here works on recorded ids alone; what needs a side to be run again is in `retold`.
"""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import follow, retold, texts, tokens
from whydiff.places import Place


@dataclasses.dataclass(frozen=True)
class Rows:
    """The ids of one encoder call on both sides, row by row (one row per prompt or chunk)."""

    place: Place
    reference: list[list[int]]
    candidate: list[list[int]]

    @property
    def pairs(self) -> list[tuple[list[int], list[int]]]:
        """Rows that differ; none where the sides have other numbers of rows."""
        if len(self.reference) != len(self.candidate):
            return []
        return [(a, b) for a, b in zip(self.reference, self.candidate) if a != b]


def differing(finding: Finding, lab) -> list[Rows]:
    """The ids at all places of a finding, each side's own."""
    found = []
    for place in finding.places:
        mine, theirs = finding.reference.get(place), finding.candidate.get(place, lab.own_value("candidate", place))
        if mine is not None and theirs is not None and mine.dim() == theirs.dim() == 2:
            found.append(Rows(place, mine.tolist(), theirs.tolist()))
    return found


def explain(finding: Finding, lab) -> list[Explanation]:
    """Ids that differ, in whatever shape: cheapest and most specific first; another text altogether last."""
    rows = differing(finding, lab)
    if not rows:
        return []
    pairs = [pair for entry in rows for pair in entry.pairs]
    on_rows = (_leading, _padding, _padding_side, _image_dropped, _template)
    found = retold.other_prompt(finding, lab) or next((e for f in on_rows if (e := f(rows, finding, lab))), None)
    found = found or _chunked(finding, lab) or retold.cleaned(finding, lab) or _swallowed(rows, finding, lab) or retold.read_back(finding, lab)
    for explanation in found:
        explanation.covers |= set() if explanation.changes else follow.from_ids(finding, lab, pairs)
    return found


def explain_lengths(finding: Finding, lab) -> list[Explanation]:
    """The same text in rows of other lengths: padded further, or cut off. Asked once no setting was found that repairs it."""
    rows = differing(finding, lab)
    pairs = [pair for entry in rows for pair in entry.pairs]
    covers = follow.from_ids(finding, lab, pairs)
    if not pairs or len({(len(a), len(b)) for a, b in pairs}) > 1:
        return []
    lengths = {"reference": len(pairs[0][0]), "candidate": len(pairs[0][1])}
    if all(_bodies_equal(a, b) for a, b in pairs):
        return [_told("max-sequence-length", f"candidate pads its prompt to {lengths['candidate']} tokens, the reference to {lengths['reference']}",
                      {"kind": "setting", "setting": "max_sequence_length", **lengths},
                      "left the padding of both sides out: the token ids agree",
                      f"pad to {lengths['reference']} tokens on both sides", covers=covers)]  # fmt: skip
    if texts.equally_asked(lab) and all(_cut(a, b) for a, b in pairs):
        shorter = min(lengths, key=lengths.get)
        return [_told("max-sequence-length",
                      f"the {shorter} cuts its prompt at {lengths[shorter]} tokens, the other side reads {max(lengths.values())}",
                      {"kind": "setting", "setting": "max_sequence_length", **lengths},
                      f"cut the longer ids to {lengths[shorter]} tokens, end token apart: they are the {shorter}'s",
                      "use one maximal length on both sides", equivalent=["long-prompt-truncated"], covers=covers)]  # fmt: skip
    return []


def explain_mask(finding: Finding, lab) -> list[Explanation]:
    """Masks of equal ids: one leaves the padding out, the other attends to everything."""
    masks = [(a.bool(), b.bool()) for a, b in finding.pairs if a.shape == b.shape]
    for role, other, which in (("reference", "candidate", 0), ("candidate", "reference", 1)):
        if masks and all(pair[which].all() and not pair[1 - which].all() for pair in masks):
            return [Explanation(
                id="encoder-mask-passed-or-not", departs="unknown", explained=1.0,
                statement=f"the {role}'s attention mask admits every token, the {other}'s leaves its padding out",
                relation={"kind": "attention_mask", role: False, other: True},
                experiment=f"with the tokens that only the {role} admits left out, the masks agree; the token ids agree",
                fix=f"pass one attention mask to both text encoders: {finding.probe}")]  # fmt: skip
    return []


def _bodies_equal(a: list[int], b: list[int]) -> bool:
    """The same text, each side padded with its own id; a row that is full has no padding to leave out."""
    short, long = sorted((a, b), key=len)
    return len(a) != len(b) and (long[: len(short)] == short and len(set(long[len(short) :])) == 1
                                 or long[-len(short) :] == short and len(set(long[: -len(short)])) == 1)  # fmt: skip


def _cut(a: list[int], b: list[int]) -> bool:
    """One row is the start of the other, but for an end token of its own."""
    short, long = sorted((a, b), key=len)
    return len(short) > 2 and len(short) < len(long) and long[: len(short) - 1] == short[:-1]


def _leading(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`double-bos`: one side has one more token in front of the same ids."""
    pairs = [pair for entry in rows for pair in entry.pairs]
    for role, ordered in (("candidate", pairs), ("reference", [(b, a) for a, b in pairs])):
        found = [tokens.leading_token(short, long) for short, long in ordered]
        if not found or None in found or len(set(found)) > 1:
            continue
        token, doubled = found[0], all(long[1] == found[0] for _, long in ordered)
        reader = texts.tokenizer(lab, finding.probe)
        special = doubled or (reader is not None and token in reader.all_special_ids)
        if not special and (reader is not None or not texts.equally_asked(lab)):
            return []
        what = f"{texts.readable(lab, finding.probe, [token])} (id {token})"
        words = f"starts with {what} twice" if doubled else f"has {what} in front of its tokens"
        return [_told("double-bos", f"the {role} {words}, the other side's ids lack it",
                      {"kind": "leading_token", "token": token, "side": role, "doubled": doubled},
                      f"dropped the {role}'s first id: the token ids agree",
                      f"add the start token once on the {role}'s side: in the template or in the tokenizer (add_special_tokens)",
                      departs=role if doubled else "unknown",
                      equivalent=[] if special else ["prompt-template-dropped"])]  # fmt: skip
    return []


def _padding(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`pad-token-id`: the same text, padded with another id."""
    pairs = [pair for entry in rows for pair in entry.pairs]
    found = {tokens.padded_otherwise(a, b) for a, b in pairs}
    if len(found) != 1 or None in found:
        return []
    mine, theirs = found.pop()
    reader = texts.tokenizer(lab, finding.probe)
    own = {role: texts.tokenizer(lab, finding.probe, role) for role in ("reference", "candidate")}
    wrong = [role for role, pad in (("reference", mine), ("candidate", theirs))
             if own[role] is not None and own[role].pad_token_id not in (None, pad)]  # fmt: skip
    departs = wrong[0] if len(wrong) == 1 else "unknown"
    told = own[departs].pad_token_id if len(wrong) == 1 else None
    words = {i: f"id {i} ({texts.readable(lab, finding.probe, [i])})" if reader is not None else f"id {i}" for i in (mine, theirs)}
    known = f"; the {departs}'s own tokenizer says id {told}" if told in (mine, theirs) else ""
    return [_told("pad-token-id", f"candidate pads its tokens with {words[theirs]}, the reference with {words[mine]}{known}",
                  {"kind": "pad_token", "reference": mine, "candidate": theirs},
                  "replaced the ids behind the text by the reference's padding: the token ids agree",
                  f"pad with id {told if told in (mine, theirs) else mine} on both sides", departs=departs,
                  equivalent=["pad-token-collides-with-word"] if _is_a_word(pairs, mine, theirs) else [])]  # fmt: skip


def _padding_side(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`padding-side`: the same text with the same padding, at the other end of the row."""
    pairs = [pair for entry in rows for pair in entry.pairs]
    for role, other, ordered in (("reference", "candidate", pairs), ("candidate", "reference", [(b, a) for a, b in pairs])):
        if pairs and all(tokens.padded_in_front(front, behind) for front, behind in ordered):
            return [_told("padding-side", f"the {role} pads its tokens in front of the text, the {other} behind it",
                          {"kind": "padding_side", role: "left", other: "right"},
                          f"moved the {role}'s padding behind its text: the token ids agree",
                          "set padding_side of the tokenizer alike on both sides, to what the text encoder was trained with",
                          covers=_turned_too(finding, lab, role, other))]  # fmt: skip
    return []


def _turned_too(finding: Finding, lab, front: str, behind: str) -> set[str]:
    """The mask beside the ids, where it is turned like them."""
    mask = finding.probe.replace("input_ids", "attention_mask")
    held = [[lab.own_value(role, place) for role in (front, behind)] for place in lab.traces["reference"].at(mask)]
    known = [(a.long().tolist(), b.long().tolist()) for a, b in held if a is not None and b is not None and a.dim() == b.dim() == 2]
    turned = [tokens.padded_in_front(one, other) for a, b in known for one, other in zip(a, b) if one != other]
    return {mask} if turned and all(turned) else set()


def _is_a_word(pairs, mine: int, theirs: int) -> bool:
    """Does the id that one side pads with occur among the words of a prompt?"""
    rows = [(row, pad) for a, b in pairs for row, pad in ((a, mine), (b, theirs))]
    return any(pad in tokens.body(row)[1:-1] for row, pad in rows)


def _swallowed(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`pad-token-collides-with-word`: inside the text, one side has its pad id where the other has words."""
    found = []
    for a, b in (pair for entry in rows for pair in entry.pairs):
        if tokens.padded_otherwise(a, b) is None:
            found.append(tokens.swallowed(a, b))
    if not found or None in found or len(set(found)) > 1 or not texts.equally_asked(lab):
        return []
    pad = found[0]
    proof = retold.agree_without(finding, lab, pad)
    if proof is None:
        return []
    word = texts.readable(lab, finding.probe, [pad])
    return [_told("pad-token-collides-with-word",
                  f"the pad token, id {pad} ({word}), is also a word of the prompt: the sides split it differently inside the text",
                  {"kind": "pad_token", "token": pad}, proof or "outside the places where one side has the pad id the text's ids agree",
                  "pad with a token that no prompt can contain, or tokenise the text before the pad token is registered",
                  departs="unknown")]  # fmt: skip


def _image_dropped(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`negative-image-dropped`: the negative prompt lacks the image placeholders that the other side's has; the prompt does not."""
    seen = lab.traces["reference"].at(finding.probe)
    if len(seen) < 2 or seen[0] in finding.places:
        return []
    for role, other in (("candidate", "reference"), ("reference", "candidate")):
        counts = [tokens.placeholders_left_out(mine, theirs)
                  for entry in rows for mine, theirs in zip(getattr(entry, role), getattr(entry, other))]  # fmt: skip
        if counts and None not in counts:
            return [_told("negative-image-dropped",
                          f"the {role}'s negative prompt is encoded without the image: {counts[0]} placeholders fewer than the {other}'s",
                          {"kind": "placeholders", role: 0, other: counts[0]},
                          f"left the {other}'s image placeholders out of its negative prompt: the token ids agree",
                          f"give the {role}'s unconditional branch the image, too", departs=role, stage="guidance",
                          probe="negative_prompt_embeds", equivalent=["prompt-template-dropped"])]  # fmt: skip
    return []


def _chunked(finding: Finding, lab) -> list[Explanation]:
    """`long-prompt-truncated`: the same text cut at another place: fewer chunks on one side, or chunks that end elsewhere."""
    if not texts.equally_asked(lab):
        return []
    chunks = {role: [row for place in lab.traces[role].at(finding.probe) for row in _ids(lab, role, place)] for role in lab.traces}
    a, b = chunks["reference"], chunks["candidate"]
    if not a or not b or len(a) == len(b) == 1:
        return []
    ends = tokens.ends_of([*a, *b]) | {row[-1] for row in (*a, *b) if row[-1] == a[0][-1]}
    texts_of = [[tokens.text(row, ends) for row in side] for side in (a, b)]
    if texts_of[0] == texts_of[1]:
        return []  # nothing is cut elsewhere: what differs is what the rows are filled up with
    whole = [[i for text in side for i in text] for side in texts_of]
    texts_equal = whole[0] == whole[1] and bool(whole[0])
    fewer = "reference" if len(a) < len(b) else "candidate" if len(b) < len(a) else None
    if not texts_equal and (fewer is None or not _chunk_inserted(*sorted((a, b), key=len), ends)):
        return []
    counts = {"reference": len(a), "candidate": len(b)}
    embeds = Place("prompt_embeds")
    made = [lab.own_value(role, embeds) for role in ("reference", "candidate")]
    if None not in [m if m is None else 0 for m in made] and made[0].shape != made[1].shape:
        lab.unrepaired.append(embeds)  # no value of one side fits into the other: what is made from them inherits
    words = f"the {fewer} cuts its prompt off: {min(counts.values())} rows of tokens, {max(counts.values())} on the other side"
    if texts_equal:
        words = f"the same tokens are split otherwise: {counts['candidate']} rows in the candidate, {counts['reference']} in the reference"
    return [_told("long-prompt-truncated", words, {"kind": "chunks", **counts},
                  "the rows that both sides encode have the same tokens; further ones continue a row that is full"
                  if not texts_equal else "joined the chunks of each side: the tokens agree",
                  "cut and join long prompts in the same way on both sides", covers={*follow.EMBEDS, *follow.lengthened(lab)})]  # fmt: skip


def _chunk_inserted(fewer: list[list[int]], more: list[list[int]], ends: set[int]) -> bool:
    """Is `more` the rows of `fewer` with rows put in, each behind a row that was full?"""
    extra, i = [], 0
    for j, row in enumerate(more):
        if i < len(fewer) and row == fewer[i]:
            i += 1
        elif j and len(tokens.text(more[j - 1], ends)) >= len(more[j - 1]) - 2:
            extra.append(row)
        else:
            return False
    return i == len(fewer) and bool(extra)


def _template(rows: list[Rows], finding: Finding, lab) -> list[Explanation]:
    """`prompt-template-dropped`: the same prompt inside another text."""
    if not texts.equally_asked(lab):
        return []
    pairs = [pair for entry in rows for pair in entry.pairs]
    reader, prompt = texts.tokenizer(lab, finding.probe), texts.given(lab, "reference", "prompt")
    for role, other, ordered in (("reference", "candidate", pairs), ("candidate", "reference", [(b, a) for a, b in pairs])):
        found = [tokens.wrapped(bare, template) for bare, template in ordered]
        if not found or None in found:
            continue
        before, after = found[0]
        suffix_only = not any(entry[0] for entry in found)
        if suffix_only and reader is not None and isinstance(prompt, str):
            if tokens.find(reader(prompt, add_special_tokens=False).input_ids, tokens.body(ordered[0][0])) is None:
                continue  # the shorter side has not even the whole prompt: cut off, not unwrapped
        elif suffix_only and any(tokens.padding(bare) is None for bare, _ in ordered):
            continue
        framed = " and ".join(f"{texts.readable(lab, finding.probe, part)} {where} it"
                              for part, where in ((before, "before"), (after, "behind")) if part)  # fmt: skip
        return [_told("prompt-template-dropped", f"the {role} encodes the bare prompt, the {other} has {framed} ({len(before) + len(after)} tokens)",
                      {"kind": "template", "side": role, "before": len(before), "after": len(after)},
                      f"took these tokens away from the {other}'s ids: the {role}'s are left",
                      f"use the {other}'s template around the {role}'s prompt", departs="unknown",
                      equivalent=["long-prompt-truncated"] if suffix_only and reader is None else [])]  # fmt: skip
    return []


def _ids(lab, role: str, place: Place) -> list[list[int]]:
    tensor = lab.traces[role][place]
    return tensor.tolist() if tensor.dim() == 2 and not torch.is_floating_point(tensor) else []


def _told(id_: str, statement: str, relation: dict, experiment: str, fix: str, *, departs="unknown",
          equivalent=(), stage=None, probe=None, covers=()) -> Explanation:  # fmt: skip
    """An explanation of ids: they are whole numbers, so a rule that makes them equal explains all of the difference."""
    return Explanation(id=id_, statement=statement, relation=relation, explained=1.0, experiment=experiment, fix=fix, departs=departs,
                       equivalent=list(equivalent), stage=stage, probe=probe, covers=set(covers))  # fmt: skip
