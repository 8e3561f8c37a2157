"""Noise of which each rank's part comes from another seed, against noise of one stream."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from whydiff.causes.finding import Explanation
from whydiff.formulas.noise import NoiseRecipe
from whydiff.formulas.noise_ranks import find_ranks

_OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(mine: Tensor, theirs: Tensor, reference, candidate, seeds: Sequence[int]) -> list[Explanation]:
    """`rng-not-synchronised`: one side's noise is one draw, the other's was put together from several, part by part."""
    noises, recipes = {"reference": mine, "candidate": theirs}, {"reference": reference, "candidate": candidate}
    whole = [role for role, recipe in recipes.items() if isinstance(recipe, NoiseRecipe)]
    if len(whole) != 1:
        return []
    role = _OTHER[whole[0]]
    found = find_ranks(noises[role], recipes[whole[0]], seeds)
    if found is None:
        return []
    frames = len(recipes[whole[0]].drawn_shape) == 5 and found.axis in (1, 2) and set(found.sizes) == {1}
    return [Explanation(
        id="rng-not-synchronised", stage="caching_parallel", departs=role, explained=1.0,
        statement=f"{role}'s noise is put together from {len(found.seeds)} draws: {found.words}; the {whole[0]}'s is one draw with seed "
                  f"{recipes[whole[0]].seed}",
        relation={"kind": "ranks", "side": role, "axis": found.axis, "seeds": list(found.seeds), "sizes": list(found.sizes), "local": found.local},
        experiment=f"drew the noise of every part again, bit for bit; the {whole[0]}'s is {recipes[whole[0]].words}",
        fix="draw the noise once with one seed and give each rank its part of it",
        equivalent=["per-frame-seed-rule"] if frames else [])]  # fmt: skip
