"""Where in a CPU generator's stream was this noise drawn, and was it drawn item by item?

torch's normal_fill (aten/src/ATen/native/cpu/DistributionTemplates.h) turns 16 uniform numbers into 16 normals: value j
and value j + 8 are radius · cos and radius · sin of 2 pi · uniform j + 8. Their angle gives the uniform number back, at
any scale, so noise is found anywhere in the stream of a seed, whatever was drawn before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.formulas.noise import NoiseRecipe, check, draw, find_recipe, rounding_of

FAR, NEAR = 1 << 20, 1 << 16  # how far the stream of a likely and of an unlikely seed is searched
LIKELY = 8
BLOCK = 16
MOST_ITEMS = 128


@dataclasses.dataclass(frozen=True)
class ItemRecipes:
    """Noise drawn slice by slice along `axis`: one recipe for each slice."""

    axis: int
    items: tuple[NoiseRecipe, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(item.seed for item in self.items)

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(item.offset for item in self.items)

    @property
    def words(self) -> str:
        shown = [f"seed {i.seed}" + (f" after {i.offset} values" if i.offset else "") for i in self.items[:6]]
        more = ", ..." if len(self.items) > 6 else ""
        return f"drawn for each index of axis {self.axis} by itself, {self.items[0].device}, {self.items[0].dtype}: {', '.join(shown)}{more}"

    def draw(self) -> Tensor:
        return torch.stack([draw(item) for item in self.items], self.axis)


def find_source(noise: Tensor, seeds: Sequence[int], given: int = LIKELY) -> NoiseRecipe | ItemRecipes | None:
    """How noise was drawn: at the start of a seed's stream, further on in it, slice by slice, or by a used CUDA generator.

    The first `given` seeds are the likely ones, whose streams are searched farther. None where nothing reproduces it.
    """
    seeds = list(dict.fromkeys(int(s) for s in seeds))
    try:
        found = find_recipe(noise, seeds, skips=0)
    except Trouble:
        return None
    return (found or find_in_stream(noise, seeds, given) or find_items(noise, seeds, given)
            or find_recipe(noise, seeds[:given], dtypes=("float32", "bfloat16"), devices=("cuda",), skips=2))  # fmt: skip


def find_in_stream(noise: Tensor, seeds: Sequence[int], given: int = LIKELY, begin: int = 0) -> NoiseRecipe | None:
    """The recipe of noise that a CPU generator drew as it is after giving other values before; None if no stream holds it."""
    noise = noise.detach().cpu()
    if noise.numel() < 2 * BLOCK and noise.numel() != BLOCK:  # the last block of other sizes overlaps the first
        return None
    stored = str(noise.dtype).removeprefix("torch.")
    rounding = rounding_of(noise, stored)
    for number, seed in enumerate(seeds):
        for offset in _offsets(noise.flatten()[:BLOCK].double(), seed, FAR if number < given else NEAR, rounding):
            for dtype in ("float32", stored):
                found = check(NoiseRecipe(tuple(noise.shape), seed, dtype=dtype, offset=offset, stored=stored), noise, rounding)
                if found:
                    return found
    return None


def _offsets(block: Tensor, seed: int, length: int, rounding: float) -> list[int]:
    """Positions of a seed's stream whose uniform numbers are the angles of a block of 16 normals."""
    angles = torch.atan2(block[8:], block[:8]) / (2 * math.pi) % 1
    uniform = torch.rand(length, generator=torch.Generator().manual_seed(seed))
    # An error of u in each value turns the angle by at most about u; small float32 values are known to 1e-6 only.
    slack = 2 * rounding + 1e-6
    places = torch.arange(length - BLOCK + 1)
    for j, angle in enumerate(angles.tolist()):
        apart = (uniform[places + 8 + j] - angle).abs()
        places = places[torch.minimum(apart, 1 - apart) <= slack]
        if not len(places):
            break
    return places.tolist()


def find_items(noise: Tensor, seeds: Sequence[int], given: int = LIKELY) -> ItemRecipes | None:
    """Noise whose slices along an axis are draws of their own: with one seed each, or the same seeds again and again."""
    for axis, size in enumerate(noise.shape):
        if not 2 <= size <= MOST_ITEMS or noise.numel() // size < BLOCK:
            continue
        slices = [part.contiguous() for part in noise.unbind(axis)]
        try:
            first = find_recipe(slices[0], seeds, skips=0) or find_in_stream(slices[0], seeds[:given], given)
            found = first and _rest(first, slices, seeds, given)
        except Trouble:  # a slice that is constant or not finite was not drawn
            continue
        if found:
            return ItemRecipes(axis, tuple(found))
    return None


def _rest(first: NoiseRecipe, slices: list[Tensor], seeds, given: int) -> list[NoiseRecipe] | None:
    """The other slices in the first one's device, dtype and layout, with neighbouring seeds or further on in a stream."""
    found = [first]
    near = [first.seed + step * k for k in range(1, len(slices)) for step in (1, 2, 4, 8, 1000)]
    for index, part in enumerate(slices[1:], 1):
        used = list(dict.fromkeys(item.seed for item in found))
        tried = list(dict.fromkeys([first.seed + index, *used, *near, *seeds]))
        one = find_recipe(part, tried, dtypes=(first.dtype,), devices=(first.device,), layouts=[first.arrangement], skips=0)
        one = one or (find_in_stream(part, list(dict.fromkeys([*used, *seeds[:given]])), given) if first.device == "cpu" else None)
        if one is None:
            return None
        found.append(one)
    return found
