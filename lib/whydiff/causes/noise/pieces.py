"""Noise drawn anew for each frame or chunk of one request: which rule gives each draw its seed, and where in its stream it begins?"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.noise.items import rule
from whydiff.formulas.noise import NoiseRecipe
from whydiff.formulas.noise_stream import ItemRecipes, find_source

# What both sides must share, draw by draw, for seeds and streams to be all that differs.
_SHARED = ("device", "dtype", "layout", "scale", "cast")
_FIXES = {"seed": "give both sides the same seed explicitly", "rng-consumed-by-earlier-draw": "draw each piece from a generator of its own",
          "per-frame-seed-rule": "seed each piece as the reference does"}  # fmt: skip


def explain(finding: Finding, lab, seeds: list[int], given: int) -> list[Explanation]:
    """The rules of both sides over all draws at this probe, where every draw is found again bit for bit."""
    places = lab.traces["reference"].at(finding.probe)
    counted = [seed + i for seed in seeds[:given] for i in range(len(places) + 2)]  # a rule may count up from a seed that was given
    seeds = list(dict.fromkeys([*seeds[:given], *counted, *seeds]))
    drawn = {role: [_drawn(lab.own_value(role, place), seeds, given) for place in places] for role in ("reference", "candidate")}
    if any(recipe is None for recipes in drawn.values() for recipe in recipes):
        return []
    pairs = list(zip(drawn["reference"], drawn["candidate"], strict=True))
    if any(getattr(a, name) != getattr(b, name) for a, b in pairs for name in _SHARED):
        return []
    mine, theirs = (ItemRecipes(0, tuple(drawn[role])) for role in ("reference", "candidate"))
    if (mine.seeds, mine.offsets) == (theirs.seeds, theirs.offsets):
        return []
    id_ = _id(mine, theirs)
    return [Explanation(
        id=id_, statement=f"candidate draws each of its {len(places)} noises from {rule(theirs)}, the reference from {rule(mine)}",
        relation={"kind": "noise_pieces", "pieces": len(places), "reference": rule(mine), "candidate": rule(theirs)}, explained=1.0,
        experiment=f"drew all {len(places)} noises of both sides again, bit for bit, each from its seed and place in the stream",
        departs="unknown", fix=f"{_FIXES[id_]} ({rule(mine)})",
        equivalent=["rng-not-synchronised"] if id_ == "per-frame-seed-rule" else [])]  # fmt: skip


def _drawn(noise, seeds, given) -> NoiseRecipe | None:
    found = None if noise is None or not noise.is_floating_point() else find_source(noise, seeds, given)
    return found if isinstance(found, NoiseRecipe) and found.exact is not False else None


def _id(mine: ItemRecipes, theirs: ItemRecipes) -> str:
    if mine.offsets == theirs.offsets and len({b - a for a, b in zip(mine.seeds, theirs.seeds, strict=True)}) == 1:
        return "seed"  # one rule, begun at another number
    return "rng-consumed-by-earlier-draw" if mine.seeds == theirs.seeds else "per-frame-seed-rule"
