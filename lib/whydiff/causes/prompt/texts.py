"""What text each side was given, which tokenizer it reads it with, and the ways in which pipelines clean it first."""

from __future__ import annotations

import html
import itertools
import re
import unicodedata

from whydiff.errors import Trouble
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place

SETTINGS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2", "prompt_3", "negative_prompt_3")


def given(lab, role: str, setting: str):
    """The text (or list of texts) that a side was asked to encode, from its call, its settings or its trace; None if unknown."""
    side, trace = getattr(lab.case, role), lab.traces[role]
    call = side.live.call if side.live else {}
    for source in (call, side.settings, trace.settings if trace is not None else {}):
        if source.get(setting) is not None:
            value = source[setting]
            return value if isinstance(value, str) else list(value)
    return None


def equally_asked(lab) -> bool:
    """Are both sides known to have been given the same prompt, and no other negative prompt?"""
    pairs = [(given(lab, "reference", name), given(lab, "candidate", name)) for name in SETTINGS]
    return pairs[0][0] is not None and all(a == b or (name != "prompt" and None in (a, b)) for name, (a, b) in zip(SETTINGS, pairs))


def tokenizer(lab, probe: str, role: str | None = None):
    """The tokenizer of a live side (or of one side) that made the ids of a probe (`input_ids_2` -> `tokenizer_2`), or None."""
    name = "tokenizer" + probe.removeprefix("input_ids")
    for side in lab.sides.values() if role is None else (lab.sides[role],):
        found = side and (side.components.get(name) or getattr(side.subject, name, None))
        if found is not None and hasattr(found, "decode"):
            return found
    return None


def readable(lab, probe: str, ids: list[int]) -> str:
    """Token ids in words where a live side has the tokenizer: `'a photo of'`; otherwise the ids."""
    reader = tokenizer(lab, probe)
    if reader is None or not ids:
        return str(ids)
    return repr(reader.decode(ids))


class _Seen(BaseException):
    """Ends a run inside a pipeline's own code once the last tensor of interest was seen; no Exception, so nobody catches it."""


def run_until(lab, role: str, last: Place, *, changes=None, substitute=None) -> Trace:
    """One run of a side, given up as soon as the place `last` was recorded (or the sampling loop has left it behind).

    What is already known to repair the patient's call is repaired here, too.
    """
    if lab.sides[role] is None:
        raise Trouble(f"the {role} cannot be run")

    def put(place: Place, own):
        if place == last or (place.step is not None and place.step > (-1 if last.step is None else last.step)):
            raise _Seen
        return substitute(place, own) if substitute is not None else None

    recorder = Recorder(substitute=put)
    lab.runs += 1
    try:
        return lab.sides[role].run(recorder, (lab.changes if role == lab.patient else {}) | (changes or {}))
    except _Seen:
        return recorder.trace


def _unescaped(text: str) -> str:
    """HTML entities, fancy quotes and ligatures made plain, as ftfy does (`basic_clean` of the T5 and UMT5 pipelines)."""
    text = html.unescape(html.unescape(text))
    for fancy, plain in (("\u2018", "'"), ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2026", "...")):
        text = text.replace(fancy, plain)
    return text.strip()


RULES = {
    "stripped": str.strip,
    "whitespace folded": lambda text: re.sub(r"\s+", " ", text).strip(),
    "lower-cased": str.lower,
    "HTML entities and quotes made plain": _unescaped,
    "unicode normalised (NFC)": lambda text: unicodedata.normalize("NFC", text),
    "unicode normalised (NFKC)": lambda text: unicodedata.normalize("NFKC", text),
    "accents removed": lambda text: "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)),
    "punctuation removed": lambda text: re.sub(r"[^\w\s]|_", "", text),
}


def cleanings(text) -> list[tuple[tuple[str, ...], object]]:
    """(names of rules, cleaned text) for every text that one, two or three rules make of a prompt, fewest rules first."""
    found, seen = [], [text]
    for count in (1, 2, 3):
        for names in itertools.combinations(RULES, count):
            cleaned = text
            for name in names:
                cleaned = [RULES[name](t) for t in cleaned] if isinstance(cleaned, list) else RULES[name](cleaned)
            if cleaned not in seen:
                seen.append(cleaned)
                found.append((names, cleaned))
    return found
