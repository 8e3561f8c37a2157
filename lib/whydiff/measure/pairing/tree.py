"""Where something stands in a tree of modules, told by what is already paired around it and by no name."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def parent(name: str) -> str:
    """`net/a.b` -> `net/a` -> `net` -> the empty name, which holds everything."""
    return name[: max(name.rfind("."), name.rfind("/"), 0)]


def surroundings(name: str) -> list[str]:
    """`net/a.b` -> ``["net/a.b", "net/a", "net", ""]``: a place and everything around it, from the inside out."""
    found = [name]
    while name:
        name = parent(name)
        found.append(name)
    return found


class Neighbours:
    """What is paired below each module of one tree. `anchors[i]` are the places of pair i on this side."""

    def __init__(self, anchors: list[Iterable[str]]):
        self.size = len(anchors)
        self.below: dict[str, set[int]] = {}
        for index, places in enumerate(anchors):
            for place in places:
                for around in surroundings(place):
                    self.below.setdefault(around, set()).add(index)

    def near(self, name: str) -> np.ndarray:
        """(pairs,) of norm 1: how near each pair is, 1 / the number of pairs in the smallest module that holds both."""
        vector = np.zeros(self.size)
        for around in reversed(surroundings(name)):
            inside = self.below.get(around)
            if inside:
                vector[list(inside)] = 1.0 / len(inside)
        norm = np.linalg.norm(vector)
        return vector / norm if norm else vector


def affinity(reference: Neighbours, candidate: Neighbours, mine: list[str], theirs: list[str]) -> np.ndarray:
    """(m, n) in [0, 1]: do two places stand among the same pairs?"""
    if not mine or not theirs:
        return np.zeros((len(mine), len(theirs)))
    return np.stack([reference.near(n) for n in mine]) @ np.stack([candidate.near(n) for n in theirs]).T


def mutual_best(scores: np.ndarray, margin: float) -> list[tuple[int, int]]:
    """(i, j) where each is the other's best by more than `margin` over the next; -inf is no choice at all."""
    if not scores.size:
        return []
    rows, columns = scores.argmax(1), scores.argmax(0)
    found = []
    for i, j in enumerate(rows):
        if columns[j] != i or not np.isfinite(scores[i, j]):
            continue
        next_best = max(np.delete(scores[i], j).max(initial=-np.inf), np.delete(scores[:, j], i).max(initial=-np.inf))
        if scores[i, j] - next_best > margin:
            found.append((i, int(j)))
    return found
