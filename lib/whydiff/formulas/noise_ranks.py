"""Noise put together from the draws of several ranks: which seed gave each part, and did a rank draw the whole or its part?

Sequence-parallel pipelines divide latents along an axis; each rank should take its part of one draw (Wan and xDiT
broadcast it, or seed all ranks alike). Seeded by rank, every part is that of another draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from whydiff.formulas.noise import NoiseRecipe, draw

MOST_RANKS = 16
LEAST = 16  # values of one part that agree bit for bit by no accident
STRIDES = (1, 2, 1000)  # seed + r, and what else is added for each rank


@dataclasses.dataclass(frozen=True)
class RankedRecipe:
    """Parts of noise along `axis` of the tensor that is drawn, each from a seed of its own; `local`: each rank drew its part alone."""

    axis: int
    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    local: bool

    @property
    def words(self) -> str:
        what = "its own part alone" if self.local else "the whole and kept its part"
        sizes, seeds = (", ".join(map(str, values)) for values in (self.sizes, self.seeds))
        return f"parts of {sizes} along axis {self.axis} with seeds {seeds}, each rank drew {what}"


def find_ranks(noise: Tensor, like: NoiseRecipe, seeds: Sequence[int] = ()) -> RankedRecipe | None:
    """How noise of the shape and layout of `like` was put together from draws with several seeds; None where it was not."""
    if tuple(noise.shape) != like.shape or like.device != "cpu" or like.batch != "whole":
        return None
    drawn = like.arrangement.invert(noise) if like.arrangement else noise
    plain = dataclasses.replace(like, shape=tuple(drawn.shape), arrangement=None)
    starts = list(dict.fromkeys((like.seed, *seeds)))
    near = list(dict.fromkeys(s + step * k for s in starts[:3] for step in STRIDES for k in range(MOST_RANKS)))
    return _slices(drawn, plain, list(dict.fromkeys((*near, *starts)))) or _own_parts(drawn, plain, starts)


def _slices(drawn: Tensor, plain: NoiseRecipe, seeds: list[int]) -> RankedRecipe | None:
    """Every rank draws the whole: where a draw equals the noise is that rank's part."""
    owner = torch.full(drawn.shape, -1)
    for number, seed in enumerate(seeds):
        same = (draw(dataclasses.replace(plain, seed=seed)) == drawn) & (owner < 0)
        if int(same.sum()) >= LEAST:
            owner[same] = number
        if bool((owner >= 0).all()):
            break
    if bool((owner < 0).any()) or bool((owner == owner.flatten()[0]).all()):
        return None
    for axis in range(drawn.dim()):
        rows = owner.movedim(axis, 0).flatten(1)
        if bool((rows == rows[:, :1]).all()):
            values, sizes = rows[:, 0].unique_consecutive(return_counts=True)
            return RankedRecipe(axis, tuple(seeds[int(v)] for v in values), tuple(sizes.tolist()), local=False)
    return None


def _own_parts(drawn: Tensor, plain: NoiseRecipe, starts: list[int]) -> RankedRecipe | None:
    """Every rank draws a tensor of its part's shape."""
    for axis, size in enumerate(drawn.shape):
        for ranks in range(2, min(size, MOST_RANKS) + 1):
            parts = [part.contiguous() for part in drawn.tensor_split(ranks, axis)]
            if min(part.numel() for part in parts) < LEAST:
                break
            for start in starts:
                for step in (*STRIDES, 0):
                    seeds = tuple(start + step * r for r in range(ranks))
                    if all(_is(part, plain, seed) for part, seed in zip(parts, seeds, strict=True)):
                        return RankedRecipe(axis, seeds, tuple(part.shape[axis] for part in parts), local=True)
    return None


def _is(part: Tensor, plain: NoiseRecipe, seed: int) -> bool:
    return torch.equal(draw(dataclasses.replace(plain, shape=tuple(part.shape), seed=seed)), part)
