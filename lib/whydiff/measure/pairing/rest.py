"""What is left when outputs were paired one by one: copies of paired ones, modules with the same contents, and functions
that compute on one side what a module computes on the other."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import torch

from whydiff.measure.pairing.found import ModulePair, ModulePairing, within
from whydiff.measure.pairing.outputs import EQUAL, Output, difference, holds
from whydiff.measure.pairing.tree import Neighbours, affinity, surroundings


def aliases(events: list[Output], still_open: set[int]) -> dict[str, str]:
    """Open outputs that hold the values of a paired one of the same side, or of a part of one made inside their module."""
    sums = np.array([float(e.tensor.double().sum()) for e in events])
    sizes = np.array([e.tensor.numel() for e in events])
    paired = np.array([i not in still_open for i in range(len(events))], dtype=bool)
    found = {}
    for index in sorted(still_open):
        event = events[index]
        alike = paired & (sizes == sizes[index]) & (np.abs(sums - sums[index]) <= 1e-9 * float(event.tensor.double().abs().sum()))
        around = [i for i in np.flatnonzero(paired & (sizes > sizes[index])) if within(events[i].module, event.module)]
        for other in [*np.flatnonzero(alike), *around]:
            if holds(events[other].tensor, event.tensor):
                found[event.name] = events[other].name
                break
    return found


def level(pairs: dict[tuple[int, int], list[ModulePair]], mine: list[int]) -> np.ndarray:
    """(m,) how far the sides are apart around each open output: the most among the nearest pairs before and after it.

    With no pair after it, nothing is known: it may be the first that departs.
    """
    at = sorted((i, max(p.difference for p in several)) for (i, _), several in pairs.items())
    places, apart = np.array([i for i, _ in at]), np.array([d for _, d in at])
    found = []
    for i in mine:
        k = int(np.searchsorted(places, i)) if len(places) else 0
        found.append(apart[max(0, k - 2) : k + 2].max(initial=0.3 if k == len(places) else 0.0))
    return np.array(found)


def same_contents(pairs: list[tuple[str, str]], kinds_reference: dict, kinds_candidate: dict) -> list[tuple[str, str]]:
    """Modules around the same pairs of parameters, of two layers or more; where several nest, outer ones with outer ones.

    `pairs` are names of parameters, `kinds_*` say of each module whether there are modules inside (`found.kinds`).
    """
    groups = []
    for side, kinds in ((0, kinds_reference), (1, kinds_candidate)):
        inside: dict[str, set[int]] = collections.defaultdict(set)
        for index, names in enumerate(pairs):
            for around in surroundings(names[side])[1:]:
                inside[around].add(index)
        group = collections.defaultdict(list)
        for name in sorted(inside, key=len):
            if name in kinds and kinds[name][1]:
                group[frozenset(inside[name])].append(name)
        groups.append(group)
    found = []
    for contents, mine in groups[0].items():
        theirs = groups[1].get(contents, [])
        layers = [{pairs[i][side].rpartition(".")[0] for i in contents} for side in (0, 1)]
        if len(mine) == len(theirs) and min(map(len, layers)) > 1:
            found += zip(mine, theirs, strict=True)
    return found


class Sought:
    """Outputs of one run that functions of another run may have made; asked for each result as it is made, so that none is kept.

    `found` has, by the output's name, the functions (in order) that made the same values but for rounding, and how far they are.
    """

    def __init__(self, outputs: list[Output]):
        self._by_size: dict[int, list[tuple[Output, float, float]]] = collections.defaultdict(list)
        for output in outputs:
            if output.tensor.is_floating_point() and output.tensor.numel():
                values = output.tensor.double()
                self._by_size[output.tensor.numel()].append((output, float(values.sum()), float(values.abs().sum())))
        self.found: dict[str, list[tuple[str, float]]] = collections.defaultdict(list)

    def look(self, name: str, tensor: torch.Tensor) -> None:
        """Is this, made by the function `name`, one of the outputs?"""
        options = self._by_size.get(tensor.numel())
        if not options or not tensor.is_floating_point():
            return
        values = tensor.detach().double()
        total, size = float(values.sum()), float(values.abs().sum())
        for output, own_total, own_size in options:
            if abs(total - own_total) <= EQUAL * own_size and abs(size - own_size) <= EQUAL * own_size:
                apart = difference(output.tensor, tensor.detach().to(output.tensor.device))
                if apart <= EQUAL:
                    self.found[output.name].append((name, apart))


def with_functions(pairing: ModulePairing, by_candidate: dict, by_reference: dict) -> ModulePairing:
    """Unpaired outputs of the reference that a function of the candidate makes (`Sought.found`), and the other way round.

    Of several functions that make the same values, the one that stands among the same pairs is taken.
    """
    spaces = [Neighbours([[_module(getattr(p, role))] for p in pairing.pairs]) for role in ("reference", "candidate")]
    made: list[ModulePair] = []
    left = []
    for side, (unpaired, found) in enumerate(((pairing.unpaired_reference, by_candidate), (pairing.unpaired_candidate, by_reference))):
        for name in unpaired:
            options = found.get(name)
            if options:
                near = affinity(spaces[side], spaces[1 - side], [_module(name)], [_module(other) for other, _ in options])[0]
                other, apart = options[int(np.argmax(np.round(near, 6)))]
                made.append(ModulePair(*((name, other) if side == 0 else (other, name)), 1.0, apart, "function"))
        left.append([name for name in unpaired if not found.get(name)])
    return dataclasses.replace(pairing, functions=made, unpaired_reference=left[0], unpaired_candidate=left[1])


def _module(name: str) -> str:
    return name.split(" ", 1)[0]
