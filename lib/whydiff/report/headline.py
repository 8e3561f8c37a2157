"""The verdict in one plain sentence: what is wrong, and how one knows."""

from __future__ import annotations

ENDINGS = {
    "same": "{both} agree bit for bit in all {tensors} tensors compared.",
    "within_noise": "{both} agree: nothing stands out from noise in {tensors} tensors compared.",
    "precision": "{both} differ only by what was declared.",
    "incomparable": "{both} could not be compared: they have no evidence in common.",
    "vacuous": "Agreement proves nothing here: nothing that could make a difference differs between the sides.",
}


def headline(study, repairs=()) -> str:
    """One sentence. `repairs`: those of `audits.root_cause`, the last with all causes undone."""
    verdict = study.verdict
    reference, candidate = (getattr(study.case, role).name or f"the {role}" for role in ("reference", "candidate"))
    if reference == candidate:
        reference, candidate = "the reference", "the candidate"
    if verdict.verdict != "different":
        both = f"{candidate} and {reference}"
        return upper(ENDINGS[verdict.verdict].format(both=both, tensors=verdict.compared.get("tensors", 0)))
    did = "makes another picture than" if pictures_differ(study) else "differs from"
    return upper(f"{candidate} {did} {reference}{_reasons(verdict)}{_proof(verdict, list(repairs), did)}.")


def _reasons(verdict) -> str:
    causes, rest = len(verdict.causes), len(verdict.unexplained)
    if not causes:
        return f", and no experiment explains why: {rest} unexplained" if rest else ""
    named = f" because {verdict.causes[0].statement.rstrip('.')}" if causes == 1 else f" for {causes} reasons"
    return f"{named}{',' if causes == 1 else ''} and {rest} more unexplained" if rest else named


def _proof(verdict, repairs: list, did: str) -> str:
    """What a run with all causes undone shows, where that was made."""
    causes = len(verdict.causes)
    if not repairs or not causes or (causes > 1 and not repairs[-1].undone.startswith("all ")):
        return ""
    undone = "with it undone" if causes == 1 else "with both undone" if causes == 2 else f"with all {causes} undone"
    they = "the pictures" if "picture" in did else "the sides"
    if repairs[-1].equal:
        return f"; {undone}, {they} are equal bit for bit"
    return f"; {undone}, {they} agree to within noise" if repairs[-1].agrees else f"; {undone}, a difference is left"


def pictures_differ(study) -> bool:
    """Both sides made a picture, and the two are not the same."""
    import torch

    pair = [None if trace is None else trace.get("image") for trace in (study.reference, study.candidate)]
    return all(p is not None for p in pair) and not (pair[0].shape == pair[1].shape and torch.equal(*pair))


def upper(text: str) -> str:
    """The same words with a capital letter in front, unless they begin with a name in code or one that is written small."""
    word = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if word.replace("'", "").isalpha() and word.islower() else text
