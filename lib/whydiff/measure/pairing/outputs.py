"""Outputs of modules and functions, held against each other whatever their layout: tokens first or last, heads split or not."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import torch

from whydiff.measure.compare import relative_l2
from whydiff.measure.pairing.digest import normed, positions

EQUAL = 1e-3  # relative difference of outputs that are the same but for rounding
MOST_AXES = 5  # axes (those of length 1 apart) up to which all their orders are tried


@dataclasses.dataclass(frozen=True)
class Output:
    """One tensor of one run. Its name begins with the module that made it; what follows a space tells calls, branches and
    further outputs apart. `inside`: made by a function in that module's code, and no output of the module itself."""

    name: str
    tensor: torch.Tensor
    inside: bool = False

    @property
    def module(self) -> str:
        return self.name.split(" ", 1)[0]

    @property
    def which(self) -> str:
        return self.name.partition(" ")[2]


def real(output: Output) -> Output:
    """Complex values (rotary frequencies) as pairs of real ones."""
    return dataclasses.replace(output, tensor=torch.view_as_real(output.tensor)) if output.tensor.is_complex() else output


def features(tensor: torch.Tensor, rows: np.ndarray | None, height: int) -> torch.Tensor | None:
    """The outputs of some rows of a weight (height, ...): the last axis of that length, or the second (convolutions)."""
    if rows is None:
        return tensor
    axes = [axis for axis in (tensor.dim() - 1, 1, *range(tensor.dim())) if axis < tensor.dim() and tensor.shape[axis] == height]
    if not axes:
        return None
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return tensor.narrow(axes[0], int(rows[0]), len(rows))
    return tensor.index_select(axes[0], torch.as_tensor(rows, device=tensor.device))


def similarities(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> np.ndarray:
    """(m, n) correlations in the best layout; -inf where the numbers of elements differ. One product for each pair of shapes."""
    table = np.full((len(mine), len(theirs)), -np.inf)
    for (a, rows), (b, columns) in itertools.product(_by_shape(mine).items(), _by_shape(theirs).items()):
        if math.prod(a) != math.prod(b) or not math.prod(a):
            continue
        for turn_a, turn_b in turns(a, b):
            found = _sketches(mine, rows, a, turn_a) @ _sketches(theirs, columns, b, turn_b).T
            table[np.ix_(rows, columns)] = np.maximum(table[np.ix_(rows, columns)], found)
    return table


def _by_shape(tensors: list[torch.Tensor]) -> dict[tuple[int, ...], list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault(_long_axes(tensor.shape), []).append(index)
    return groups


def _long_axes(shape) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1) or (1,)


@functools.lru_cache(maxsize=4096)
def turns(a: tuple[int, ...], b: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Orders of the axes of either shape in which one only splits or merges axes of the other, the unchanged order first."""
    still_a, still_b = tuple(range(len(a))), tuple(range(len(b)))
    if a == b:
        return [(still_a, still_b)]
    found = []
    if len(a) <= MOST_AXES and len(b) <= MOST_AXES:
        found = [(order, still_b) for order in itertools.permutations(still_a) if _refines([a[i] for i in order], b)]
        found += [(still_a, order) for order in itertools.permutations(still_b) if _refines([b[i] for i in order], a)]
    return list(dict.fromkeys([(still_a, still_b), *found]))


def _refines(a, b) -> bool:
    one, other = (set(itertools.accumulate(shape, lambda x, y: x * y)) for shape in (a, b))
    return one <= other or other <= one


def _sketches(tensors: list[torch.Tensor], which: list[int], shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    at = _flat_places(shape, order)
    return normed(torch.stack([tensors[i].reshape(-1)[at.to(tensors[i].device)].cpu() for i in which]))


@functools.lru_cache(maxsize=512)
def _flat_places(shape: tuple[int, ...], order: tuple[int, ...]) -> torch.Tensor:
    """Where the sampled positions of the permuted tensor are in the tensor as it is."""
    at = positions(math.prod(shape))
    if order == tuple(range(len(shape))):
        return at
    strides = [math.prod(shape[axis + 1 :]) for axis in order]
    return sum(index * stride for index, stride in zip(torch.unravel_index(at, [shape[i] for i in order]), strides, strict=True))


def arranged(candidate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The candidate's tensor in the reference's shape, its axes in the order in which both correlate best."""
    a, b = _long_axes(reference.shape), _long_axes(candidate.shape)
    options = turns(a, b)
    if len(options) == 1:
        return candidate.reshape(reference.shape)
    scores = [float((_sketches([reference], [0], a, x) @ _sketches([candidate], [0], b, y).T)[0, 0]) for x, y in options]
    turn_a, turn_b = options[int(np.argmax(scores))]
    turned = candidate.reshape(b).permute(turn_b).reshape([a[i] for i in turn_a])
    return turned.permute(np.argsort(turn_a).tolist()).reshape(reference.shape)


def difference(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """Relative L2 difference in the best layout."""
    return relative_l2(reference, arranged(candidate, reference))


def joined(part: torch.Tensor, whole: torch.Tensor) -> tuple[int, int, int] | None:
    """(axis, start, stop) where `whole` is `part` and something else one after the other, but for rounding."""
    axis = _longer_axis(tuple(part.shape), tuple(whole.shape))
    if axis is None:
        return None
    length = part.shape[axis]
    for start in (0, whole.shape[axis] - length):
        if relative_l2(part, whole.narrow(axis, start, length)) <= EQUAL and float(part.double().std()) > 0:
            return axis, start, start + length
    return None


@functools.lru_cache(maxsize=4096)
def _longer_axis(part: tuple[int, ...], whole: tuple[int, ...]) -> int | None:
    """The one axis in which the shapes differ, if the whole is the longer one there."""
    if len(part) != len(whole):
        return None
    axes = [i for i, (n, m) in enumerate(zip(part, whole, strict=True)) if n != m]
    return axes[0] if len(axes) == 1 and 1 < part[axes[0]] < whole[axes[0]] else None


def holds(whole: torch.Tensor, part: torch.Tensor) -> bool:
    """Are the values of `part` exactly those of `whole`, or of one of the equal chunks of its last axis, in some layout?"""
    if not part.numel() or not whole.numel() or whole.numel() % part.numel():
        return False
    count = whole.numel() // part.numel()
    if count == 1:
        return torch.equal(arranged(whole, part), part)
    if not whole.dim() or whole.shape[-1] % count:
        return False
    sums = whole.double().reshape(-1, count, whole.shape[-1] // count).sum((0, 2))
    near = (sums - part.double().sum()).abs() <= 1e-9 * part.double().abs().sum()
    return any(torch.equal(arranged(whole.chunk(count, dim=-1)[i], part), part) for i in near.nonzero().flatten().tolist())
