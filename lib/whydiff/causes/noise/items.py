"""Noise that a side draws piece by piece, or whose pieces are in another order: which rule gives each piece its values?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.formulas.noise import NoiseRecipe
from whydiff.formulas.noise_stream import ItemRecipes
from whydiff.measure.relations import find_relation

LEAST_PREFIX = 64  # equal values at the beginning that are no accident


def compare_items(reference, candidate, share: float, proof: str) -> list[Explanation]:
    """At least one side draws slice by slice; what is different about the seeds and the order of draws?"""
    mine, theirs = rule(reference), rule(candidate)
    items = [side for side in (reference, candidate) if isinstance(side, ItemRecipes)]
    id_, equivalent = _id(reference, candidate, items[0].axis)
    axis = "item of the batch" if items[0].axis == 0 else f"index of axis {items[0].axis}"
    fix = {"seed": "give both sides the same seeds", "per-frame-seed-rule": f"draw as the reference does: {mine}",
           "generator-list-shared-object": "give each item of the batch a generator object of its own",
           "batch-single-generator": f"draw the batch as the reference does: {mine}",
           "rng-consumed-by-earlier-draw": "draw the initial noise before anything else from each generator"}[id_]  # fmt: skip
    return [Explanation(
        id=id_, statement=f"candidate draws the noise of each {axis} from {theirs}, the reference from {mine}",
        relation={"kind": "noise_items", "axis": items[0].axis, "reference": mine, "candidate": theirs}, explained=share,
        experiment=proof, departs="unknown", equivalent=equivalent, fix=fix)]  # fmt: skip


def reordered(reference, candidate) -> bool:
    """The pieces of one side are the other's one stream in another order: a question of layout, not of seeds."""
    sides = {type(side): side for side in (reference, candidate)}
    if set(sides) != {NoiseRecipe, ItemRecipes}:
        return False
    whole, items = sides[NoiseRecipe], sides[ItemRecipes]
    return set(items.seeds) == {whole.seed} and len(set(items.offsets)) == len(items.offsets)


def _id(reference, candidate, axis: int) -> tuple[str, list[str]]:
    both = isinstance(reference, ItemRecipes) and isinstance(candidate, ItemRecipes) and reference.axis == candidate.axis
    if axis:
        return "per-frame-seed-rule", ["rng-not-synchronised"]
    if any(_shared(side) for side in (reference, candidate)):
        return "generator-list-shared-object", ["rng-consumed-by-earlier-draw"]
    if both and reference.offsets == candidate.offsets:
        return "seed", []
    if both and reference.seeds == candidate.seeds:
        return "rng-consumed-by-earlier-draw", ["generator-list-shared-object"]
    return "batch-single-generator", []


def _shared(side) -> bool:
    """Several seeds, one of which serves again further on in its stream: a generator object stands in the list twice."""
    if not isinstance(side, ItemRecipes) or len(set(side.seeds)) == 1:
        return False
    first = dict(zip(reversed(side.seeds), reversed(side.offsets), strict=True))
    return any(offset > first[seed] for seed, offset in zip(side.seeds, side.offsets, strict=True))


def rule(side: NoiseRecipe | ItemRecipes) -> str:
    """In words which seed and which part of its stream each slice has."""
    if isinstance(side, NoiseRecipe):
        rule = {"seed + i": f"seeds {side.seed} + i", "same seed": f"seed {side.seed} each time"}.get(side.batch)
        return rule or f"one stream with seed {side.seed}"
    seeds, n = side.seeds, len(side.seeds)
    steps = {b - a for a, b in zip(seeds, seeds[1:], strict=False)}
    fresh = not any(side.offsets)
    if len(steps) == 1 and fresh:
        step = steps.pop()
        return f"seed {seeds[0]} each time" if step == 0 else f"seeds {seeds[0]} + {'' if step == 1 else f'{step} · '}i"
    if len(set(seeds)) == 1:
        return f"one stream with seed {seeds[0]}"
    return "seeds " + ", ".join(f"{s}" + (f" (after {o} values)" if o else "") for s, o in list(zip(seeds, side.offsets, strict=True))[:8]) \
        + (", ..." if n > 8 else "")  # fmt: skip


def other_geometry(finding: Finding, lab, mine: torch.Tensor, theirs: torch.Tensor) -> list[Explanation]:
    """`gpu-randn-hardware-dependent` by the values alone: they begin alike, and from some point on the same numbers stand in
    another order, as two GPUs hand a stream's counters to other elements. No exchange of axes does that."""
    a, b = mine.flatten(), theirs.flatten()
    different = (a != b).nonzero()
    first = int(different[0]) if len(different) else a.numel()
    if not LEAST_PREFIX <= first < a.numel() - 1 or not torch.equal(a[first:].sort().values, b[first:].sort().values):
        return []
    relation = find_relation(mine, theirs)
    if relation is not None and relation.kind in ("transposed", "flipped", "halves_swapped", "rolled", "permuted"):
        return []
    return [Explanation(
        id="gpu-randn-hardware-dependent",
        statement=f"the first {first} values of both sides' noise are equal; from there on the same values stand at other elements",
        relation={"kind": "noise_geometry", "prefix": first, "of": a.numel()}, explained=1.0, departs="unknown",
        experiment="sorted both tails: they hold the same values, bit for bit; no exchange or shift of axes turns one into the other",
        fix="draw the noise on the CPU on both sides: a CUDA draw depends on the number of multiprocessors")]  # fmt: skip
