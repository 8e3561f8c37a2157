"""Which module of one implementation corresponds to which of the other? Their outputs, in execution order, are aligned.

Names tell nothing across frameworks, so outputs are paired by shape and by value, with the sequence alignment of
Needleman and Wunsch (1970): order is kept, gaps are allowed, and the pairs together are as similar as possible.
"""

from __future__ import annotations

import dataclasses
import difflib

import numpy as np
import torch

from whydiff.measure.compare import relative_l2

# Pairs less similar than this do not count as pairs: unrelated outputs of one shape rarely correlate that much.
SIMILAR = 0.5
SKETCH = 4096  # values of an output that enter its correlation


@dataclasses.dataclass(frozen=True)
class Output:
    """One module's output in one run."""

    name: str
    tensor: torch.Tensor


@dataclasses.dataclass(frozen=True)
class ModulePair:
    """Two outputs taken for each other's counterpart: correlation in [−1, 1], and relative L2 difference."""

    reference: str
    candidate: str
    similarity: float
    difference: float


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Pairs in execution order, and what has no counterpart."""

    pairs: list[ModulePair]
    unpaired_reference: list[str]
    unpaired_candidate: list[str]


def align(reference_events: list[Output], candidate_events: list[Output]) -> Alignment:
    """Pair two sequences of module outputs. Compatible are outputs with equal numbers of elements, whatever the shape."""
    similarity = _similarities(reference_events, candidate_events)
    pairs = _needleman_wunsch(_scores(reference_events, candidate_events, similarity))
    found = []
    for i, j in pairs:
        a, b = reference_events[i].tensor, candidate_events[j].tensor
        found.append(
            ModulePair(
                reference_events[i].name, candidate_events[j].name, float(similarity[i, j]), relative_l2(a, b.reshape(a.shape))
            )
        )
    mine, theirs = ({pair[k] for pair in pairs} for k in (0, 1))
    return Alignment(
        found,
        [e.name for i, e in enumerate(reference_events) if i not in mine],
        [e.name for j, e in enumerate(candidate_events) if j not in theirs],
    )


def _similarities(mine: list[Output], theirs: list[Output]) -> np.ndarray:
    """Correlation of every compatible pair, −inf for the others; one product of matrices for each number of elements."""
    table = np.full((len(mine), len(theirs)), -np.inf)
    for count in {e.tensor.numel() for e in mine} & {e.tensor.numel() for e in theirs}:
        rows = [i for i, e in enumerate(mine) if e.tensor.numel() == count]
        columns = [j for j, e in enumerate(theirs) if e.tensor.numel() == count]
        if count:
            table[np.ix_(rows, columns)] = _sketches([mine[i] for i in rows]) @ _sketches([theirs[j] for j in columns]).T
    return table


def _sketches(events: list[Output]) -> np.ndarray:
    """Centred values at evenly spaced places, of norm 1; constant outputs keep their mean's sign so that they pair up."""
    count = events[0].tensor.numel()
    values = torch.stack([e.tensor.reshape(-1)[:: max(1, count // SKETCH)].double().nan_to_num() for e in events])
    centred = values - values.mean(1, keepdim=True)
    flat = centred.norm(dim=1) <= 1e-9 * values.norm(dim=1)
    centred[flat] = values[flat]
    return (centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-300)).numpy()


def _scores(mine, theirs, similarity: np.ndarray) -> np.ndarray:
    """Similarity above the threshold; of equal outputs (a layer and the block it ends) the pair with the likelier names."""
    scores = similarity - SIMILAR
    for i, j in zip(*np.nonzero(scores > 0), strict=True):
        a, b = mine[i].name.rsplit("/", 1)[-1], theirs[j].name.rsplit("/", 1)[-1]
        scores[i, j] += 0.01 * difflib.SequenceMatcher(None, a, b, autojunk=False).quick_ratio()
        scores[i, j] += 0.01 * (mine[i].tensor.shape == theirs[j].tensor.shape)
    return scores


def _needleman_wunsch(scores: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j), both ascending, with the largest sum of scores; gaps cost nothing and pairs must have positive scores."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(1, rows + 1):
        diagonal = best[i - 1, :-1] + np.maximum(scores[i - 1], -1.0)
        # Gaps are free, so the best of a row is the running maximum of both ways to get there.
        best[i, 1:] = np.maximum.accumulate(np.maximum(diagonal, best[i - 1, 1:]))
    pairs, i, j = [], rows, columns
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]
