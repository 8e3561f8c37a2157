"""Is the initial noise the same draw? If not: which seed, generator, dtype or layout gives the candidate's?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.noise import pieces, ranks
from whydiff.causes.noise.items import compare_items, other_geometry, reordered
from whydiff.formulas.noise import NoiseRecipe
from whydiff.formulas.noise_stream import ItemRecipes, find_source
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

# Seeds that frameworks use when none is given (data/facts), and the small ones people type.
COMMON_SEEDS = (*range(0, 11), 42, 123, 1024, 1234, 1337, 2024, 2025, 3407, 12345, 123456)


def given_seeds(lab) -> list[int]:
    """Seeds that either side was given, and 0, with which the global generators are seeded before each run."""
    given: list[int] = []
    for role, side in lab.case.sides().items():
        trace = lab.traces[role]
        for source in (side.live.call if side.live else {}, side.live.build if side.live else {}, side.settings,
                       trace.settings if trace is not None else {}):  # fmt: skip
            for key, value in source.items():
                values = value if isinstance(value, (list, tuple)) else [value]
                given += [int(v) for v in values if "seed" in str(key) and isinstance(v, int) and not isinstance(v, bool)]
            generators = source.get("generator")
            for one in generators if isinstance(generators, (list, tuple)) else [generators]:
                given += [one.initial_seed()] if isinstance(one, torch.Generator) else []
    return list(dict.fromkeys([*given, 0]))


def seeds_to_try(lab) -> list[int]:
    """The seeds given first, then the common ones and their neighbours."""
    given = given_seeds(lab)
    return list(dict.fromkeys([*given, *(s + 1 for s in given), *COMMON_SEEDS]))


def explain(finding: Finding, lab) -> list[Explanation]:
    """Each way in which the candidate's recipe departs from the reference's: `seed`, `generator-device`, `randn-dtype`, ..."""
    if finding.place not in finding.candidate:
        return []
    if len(lab.traces["reference"].at(finding.probe)) > 1:
        return pieces.explain(finding, lab, seeds_to_try(lab), len(given_seeds(lab)))
    return compare_draws(finding, lab, finding.reference[finding.place], finding.candidate[finding.place])


def explain_pieces(finding: Finding, lab) -> list[Explanation]:
    """One side draws in one piece, the other slice by slice, so that single draws have other shapes: compare what the loop
    starts from."""
    whole = [lab.traces[role].get("initial_latents") for role in ("reference", "candidate")]
    if any(t is None for t in whole) or whole[0].shape != whole[1].shape or torch.equal(*whole):
        return []
    place = Place("initial_latents")
    stand_in = Finding(place.probe, [place], {place: whole[0]}, {place: whole[1]}, relative_l2(*whole), finding.floor)
    found = compare_draws(stand_in, lab, *whole)
    for entry in found:
        entry.covers, entry.changes = {"initial_noise", "initial_latents"}, {}
    return found


def compare_draws(finding: Finding, lab, mine: torch.Tensor, theirs: torch.Tensor) -> list[Explanation]:
    """Two noises of one shape, each found again by a recipe, and the ways in which the recipes differ."""
    if not all(t.is_floating_point() and bool(t.isfinite().all()) for t in (mine, theirs)):
        return []
    given = len(given_seeds(lab))
    reference, candidate = (find_source(t, seeds_to_try(lab), given) for t in (mine, theirs))
    if reference is None or candidate is None:
        return ranks.explain(mine, theirs, reference, candidate, seeds_to_try(lab)) or other_geometry(finding, lab, mine, theirs)
    again = candidate.draw().to(theirs.dtype)
    left = relative_l2(theirs, again)
    share = 1.0 - (left / finding.difference) ** 2 if finding.difference else 1.0
    proof = f"drew the candidate's noise again: {candidate.words}; the reference's is {reference.words}"
    if isinstance(reference, ItemRecipes) or isinstance(candidate, ItemRecipes):
        if reordered(reference, candidate) and torch.equal(mine.flatten().sort().values, theirs.flatten().sort().values):
            return other_geometry(finding, lab, mine, theirs)
        return compare_items(reference, candidate, share, proof)
    found = _departures(finding, lab, reference, candidate, share, proof, theirs.dtype)
    if len(found) == 1 and found[0].id == "seed":
        found[0].changes = same_seed(finding, lab, reference.seed)
    return found


def _departures(finding, lab, reference: NoiseRecipe, candidate: NoiseRecipe, share, proof, dtype) -> list[Explanation]:
    # A side that runs in 16 bit draws in it, too: that cast shows at every probe and is judged as a precision.
    stored_low = dtype in (torch.bfloat16, torch.float16)
    found = []
    for id_, field, words in _DEPARTURES:
        mine, theirs = getattr(reference, field), getattr(candidate, field)
        if mine == theirs or (field == "dtype" and stored_low):
            continue
        if field == "arrangement" and reference.layout == candidate.layout:
            continue  # one layout of two sizes: the size is what differs
        if field == "max_threads" and reference.device != candidate.device:
            continue  # only a CUDA draw has a size of GPU
        id_ = _layout_id(reference, candidate) if field == "arrangement" else id_
        equivalent = ["generator-list-shared-object"] if id_ == "rng-consumed-by-earlier-draw" else []
        found.append(Explanation(
            id=id_, statement=f"candidate's initial noise was drawn {words.format(_word(theirs))}, the reference's {words.format(_word(mine))}",
            relation={"kind": "noise_recipe", "reference": _word(mine), "candidate": _word(theirs)}, explained=share,
            experiment=proof, departs=_departs(id_, lab), fix=_FIXES[id_].format(_word(mine)), equivalent=equivalent))  # fmt: skip
    return found


def same_seed(finding: Finding, lab, seed: int) -> dict:
    """The call argument that gives the candidate the reference's seed, if a run shows that it gives the same noise.

    Better than putting the noise in place: later draws from the same generator are repaired with it.
    """
    patient = lab.sides["candidate"]
    if patient is None or not (patient.takes("seed") or patient.takes("generator")):
        return {}
    again = lab.run("candidate", changes={"seed": seed}).events.get(finding.place)
    target = finding.reference[finding.place]
    same = again is not None and again.tensor.shape == target.shape and lab.closes(finding, target, again.tensor)
    return {"seed": seed} if same else {}


_DEPARTURES = (
    ("seed", "seed", "with seed {}"),
    ("generator-device", "device", "by a {} generator"),
    ("gpu-randn-hardware-dependent", "max_threads", "by a GPU that runs {} threads at a time"),
    ("randn-dtype", "dtype", "in {}"),
    ("rng-consumed-by-earlier-draw", "earlier", "after {} other draws"),
    ("rng-consumed-by-earlier-draw", "offset", "after {} earlier values of its generator"),
    ("batch-single-generator", "batch", "for the batch: {}"),
    ("init-noise-sigma-missing", "scale", "and scaled by {}"),
    ("latent-transposed", "arrangement", "in the layout {}"),
)
_FIXES = {
    "seed": "give both sides the same seed explicitly (the reference's is {})",
    "generator-device": "draw on the {0} generator in the candidate: torch.Generator({0!r}).manual_seed(seed)",
    "gpu-randn-hardware-dependent": "draw the noise on the CPU on both sides (a GPU with {} threads drew the reference's)",
    "randn-dtype": "draw the noise in {} and convert afterwards",
    "rng-consumed-by-earlier-draw": "draw the initial noise from a generator of its own ({} earlier ones in the reference)",
    "batch-single-generator": "draw the batch as the reference does ({})",
    "init-noise-sigma-missing": "scale the initial noise by {}, as the reference does",
    "latent-transposed": "draw the noise in the reference's layout ({})",
    "patch-pack-order": "pack the noise in the reference's order ({})",
}


def _layout_id(reference: NoiseRecipe, candidate: NoiseRecipe) -> str:
    """Patches packed in another order, or axes exchanged."""
    return "patch-pack-order" if "ph" in f"{reference.layout} {candidate.layout}" else "latent-transposed"


def _word(value):
    """A recipe's field in words: a number, a name, how many draws came before, which layout was drawn."""
    if isinstance(value, tuple):
        return len(value)
    if value is None or hasattr(value, "name"):
        return "of the tensor itself" if value is None else value.name
    return value if isinstance(value, (int, float, str)) else str(value).removeprefix("torch.")


def _departs(id_: str, lab) -> str:
    """Who departs: the side whose noise is not what the call asks for; unknown where the call is silent."""
    side = lab.case.candidate.live or lab.case.reference.live
    if id_ == "seed":
        reference = lab.case.reference.live
        same = side is not None and reference is not None and side.call.get("seed") == reference.call.get("seed")
        return "candidate" if same and side.call.get("seed") is not None else "unknown"
    return "candidate"
