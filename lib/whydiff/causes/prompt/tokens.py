"""Lists of token ids taken apart: padding, start and end tokens, and what lies between. Nothing here knows a tokenizer."""

from __future__ import annotations

import difflib

# A word is one token or two; more of one id in a row are placeholders that an image's embeddings replace.
PLACEHOLDERS = 4


def tail(ids: list[int]) -> int:
    """Length of the run of one id at the end of a row; at least 1."""
    n = 1
    while n < len(ids) and ids[-n - 1] == ids[-1]:
        n += 1
    return n


def head(ids: list[int]) -> int:
    """Length of the run of one id at the start of a row; at least 1."""
    return tail(ids[::-1])


def body(ids: list[int]) -> list[int]:
    """A row without its padding: without the run of one id at its end, or at its start where there is none at the end.

    A row without padding loses its last token, on both sides alike.
    """
    if len(ids) < 2:
        return list(ids)
    if tail(ids) == 1 and head(ids) > 2:
        return ids[head(ids) :]
    return ids[: len(ids) - tail(ids)]


def padding(ids: list[int]) -> int | None:
    """The id a row is padded with, or None where no id is repeated at its end or start."""
    if len(ids) > 1 and tail(ids) > 1:
        return ids[-1]
    return ids[0] if len(ids) > 2 and head(ids) > 2 else None


def padded_otherwise(a: list[int], b: list[int]) -> tuple[int, int] | None:
    """(pad id of a, pad id of b) for rows of one length that differ only in what follows (or precedes) their text."""
    if len(a) != len(b) or a == b:
        return None
    for x, y in ((a, b), (a[::-1], b[::-1])):
        first = next(i for i, (p, q) in enumerate(zip(x, y)) if p != q)
        if first == 0 or len(set(x[first:])) > 1 or len(set(y[first:])) > 1:
            continue
        # One differing token may be an end token that is missing; it is padding where its id is seen to end the text.
        if len(x) - first > 1 or x[first - 1] in (x[first], y[first]):
            return x[first], y[first]
    return None


def padded_in_front(a: list[int], b: list[int]) -> bool:
    """Is `a` the row `b` with the padding at its end put in front? A single token may be a start or end token instead."""
    count = head(a)
    return count > 1 and a[count:] + a[:count] == b


def leading_token(short: list[int], long: list[int]) -> int | None:
    """The one id that `long` has in front of what `short` has; the end may be cut off where rows have one length."""
    a, b = _unpadded(short), _unpadded(long)
    if len(b) < 2 or not a:
        return None
    if b[1:] == a:
        return b[0]
    rest = b[1:]
    cut = len(short) == len(long) and padding(short) is None and len(rest) > 2
    if cut and (rest == a[: len(rest)] or rest[:-1] == a[: len(rest) - 1]):
        return b[0]
    return None


def _unpadded(ids: list[int]) -> list[int]:
    """The row without the run at its end alone: a doubled start token is no padding."""
    return ids[: len(ids) - tail(ids)] if len(ids) > 1 else list(ids)


def wrapped(bare: list[int], template: list[int], needed: int = 2) -> tuple[list[int], list[int]] | None:
    """(ids before, ids after) the text of `bare` inside `template`, where there are any; None where it is not in there.

    Start and end tokens of the bare row may stand around the template instead. `needed` tokens must be common.
    """
    inner, whole = (row if padding(row) is None else body(row) for row in (bare, template))
    starts = (0, 1) if inner and whole and inner[0] == whole[0] else (0,)
    for start in starts:
        for end in (len(inner), len(inner) - 1):
            core = inner[start:end]
            if len(core) < needed:
                continue
            at = find(core, whole)
            if at is not None:
                before, after = whole[start if at >= start else 0 : at], whole[at + len(core) :]
                if end < len(inner) and after[-1:] == inner[-1:]:
                    after = after[:-1]
                if len(before) + len(after) > len(inner) - end:
                    return before, after
        if padding(template) is None and len(template) == len(bare):
            cut = _cut_off(inner[start:], template, needed)
            if cut is not None and cut > start:
                return template[start:cut], []
    return None


def _cut_off(core: list[int], whole: list[int], needed: int) -> int | None:
    """Where `core` begins in a row that ends before `core` does; an end token of the row's own may follow."""
    for at in range(1, len(whole) - needed):
        rest = whole[at:]
        if rest == core[: len(rest)] or (len(rest) > needed and rest[:-1] == core[: len(rest) - 1]):
            return at
    return None


def find(part: list[int], whole: list[int]) -> int | None:
    """Where `part` stands in `whole`, or None."""
    return next((i for i in range(len(whole) - len(part) + 1) if whole[i : i + len(part)] == part), None)


def text(ids: list[int], ends: set[int]) -> list[int]:
    """The row without padding and without the start and end tokens in `ends`."""
    return [i for i in body(ids) if i not in ends]


def ends_of(rows: list[list[int]]) -> set[int]:
    """Ids that frame rows: the first, where all rows share it and there are several, and the one rows are padded with."""
    firsts = {row[0] for row in rows if row}
    found = firsts if len(firsts) == 1 and len(rows) > 1 else set()
    return found | {pad for row in rows if (pad := padding(row)) is not None}


def placeholders_left_out(without: list[int], with_image: list[int]) -> int | None:
    """How many placeholders of an image (one id, many times in a row) `with_image` has that `without` lacks; None if that
    is not the difference. A token or two that frame them may be lacking, too."""
    a, b = body(without), body(with_image)
    if len(b) - len(a) < PLACEHOLDERS:
        return None
    missing = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind in ("delete", "replace") and a1 > a0:
            return None
        if kind == "insert":
            missing += b[b0:b1]
    most = max(set(missing), key=missing.count) if missing else None
    count = missing.count(most) if missing else 0
    return count if count >= PLACEHOLDERS and len(missing) - count <= 4 * (1 + count // PLACEHOLDERS) and most not in a else None


def swallowed(a: list[int], b: list[int]) -> int | None:
    """The pad id that collides with a word: rows that differ inside their text only where one of them has its own pad id
    (or nothing), and the other that id among others. None where they differ in any other way, or only in their padding."""
    for own, other in ((a, b), (b, a)):
        pad = padding(own)
        if pad is None:
            continue
        x, y, end = _unpadded(own), _unpadded(other), padding(other)
        # The end token is padding on the side that pads with it, and stands before the padding on the other.
        x, y = x[:-1] if x[-1:] == [end] else x, y[:-1] if y[-1:] == [pad] else y
        blocks = [(x[i0:i1], y[j0:j1]) for kind, i0, i1, j0, j1
                  in difflib.SequenceMatcher(None, x, y, autojunk=False).get_opcodes() if kind != "equal"]  # fmt: skip
        only_pad = all(set(mine) <= {pad} for mine, _ in blocks)
        if blocks and only_pad and any(pad in mine or pad in theirs for mine, theirs in blocks):
            return pad
    return None
