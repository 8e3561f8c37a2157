"""In words, what an unexplained difference looks like: a simple relation where there is one, and where it is concentrated."""

from __future__ import annotations

import math

from whydiff.causes.finding import Finding
from whydiff.errors import Trouble
from whydiff.measure.relations import find_relation

MOST_ELEMENTS = 1 << 22  # beyond, a search takes longer than it is worth
FEWEST = 256  # values from which a correlation can be told from chance


def describe_relation(finding: Finding, where: str = "") -> str:
    """One phrase, or "" where nothing simple can be said; `where` it sits. It describes and explains nothing."""
    if finding.place not in finding.candidate:
        return ""
    reference, candidate = finding.reference[finding.place], finding.candidate[finding.place]
    if reference.numel() > MOST_ELEMENTS or reference.shape != candidate.shape:
        return ""
    try:
        relation = find_relation(reference, candidate, finding.floor)
    except Trouble:
        return ""
    words = relation.words if relation is not None and relation.kind not in ("identical", "rounding_error") else ""
    if not words and not where:
        words = _unrelated(reference, candidate)
    return "; ".join(part for part in (words, where) if part)


def _unrelated(reference, candidate) -> str:
    """Independent unit normals differ by 2 / sqrt(pi) on average; any two independent samples have no correlation."""
    x, y = (t.double().flatten() for t in (reference, candidate))
    if x.numel() < FEWEST or x.is_complex() or not bool(x.isfinite().all() and y.isfinite().all()):
        return ""
    dx, dy = x - x.mean(), y - y.mean()
    size = float(dx.norm() * dy.norm())
    if not size or abs(float(dx @ dy) / size) > 4 / math.sqrt(x.numel()):
        return ""
    apart = float((x - y).abs().mean()) / math.sqrt(float(dx.square().mean() + dy.square().mean()) / 2)
    return f"the two are statistically unrelated (mean distance {apart:.3g} standard deviations; independent normals have 1.13)"
