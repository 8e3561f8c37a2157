"""Is the initial noise the same draw? If not: which seed, generator, dtype or layout gives the candidate's?"""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.formulas.noise import NoiseRecipe, draw, find_recipe
from whydiff.measure.compare import relative_l2

# Seeds that frameworks use when none is given (data/facts), and the small ones people type.
COMMON_SEEDS = (*range(0, 11), 42, 123, 1024, 1234, 1337, 2024, 2025, 3407, 12345, 123456)


def seeds_to_try(lab) -> list[int]:
    """Seeds either side was given first, then the common ones and their neighbours."""
    given = []
    for side in lab.case.sides().values():
        for source in (side.live.call if side.live else {}, side.live.build if side.live else {}, side.settings):
            given += [int(v) for k, v in source.items() if "seed" in str(k) and isinstance(v, int)]
    return list(dict.fromkeys([*given, *(s + 1 for s in given), *COMMON_SEEDS]))


def recipes(finding: Finding, lab) -> tuple[NoiseRecipe | None, NoiseRecipe | None]:
    """How reference's and candidate's noise can be drawn again, as far as a recipe is found."""
    seeds = seeds_to_try(lab)
    reference = find_recipe(finding.reference[finding.place], seeds)
    return reference, find_recipe(finding.candidate[finding.place], seeds)


def explain(finding: Finding, lab) -> list[Explanation]:
    """Each way in which the candidate's recipe departs from the reference's: `seed`, `generator-device`, `randn-dtype`, ..."""
    if finding.place not in finding.candidate or not all(bool(t.isfinite().all()) for pair in finding.pairs for t in pair):
        return []
    reference, candidate = recipes(finding, lab)
    if reference is None or candidate is None:
        return []
    found = []
    left = relative_l2(finding.candidate[finding.place], draw(candidate).to(finding.candidate[finding.place].dtype))
    share = 1.0 - (left / finding.difference) ** 2 if finding.difference else 1.0
    # A side that runs in 16 bit draws in it, too: that cast shows at every probe and is judged as a precision.
    stored_low = finding.candidate[finding.place].dtype in (torch.bfloat16, torch.float16)
    proof = f"drew the candidate's noise again: {candidate.words}; the reference's is {reference.words}"
    for id_, field, words in _DEPARTURES:
        mine, theirs = getattr(reference, field), getattr(candidate, field)
        if mine == theirs or (field == "dtype" and stored_low):
            continue
        found.append(Explanation(
            id=id_, statement=f"candidate's initial noise was drawn {words.format(_word(theirs))}, the reference's {words.format(_word(mine))}",
            relation={"kind": "noise_recipe", "reference": _word(mine), "candidate": _word(theirs)}, explained=share,
            experiment=proof, departs=_departs(id_, lab), fix=_FIXES[id_].format(_word(mine))))  # fmt: skip
    if len(found) == 1 and found[0].id == "seed":
        found[0].changes = same_seed(finding, lab, reference.seed)
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
    ("randn-dtype", "dtype", "in {}"),
    ("rng-consumed-by-earlier-draw", "earlier", "after {} other draws"),
    ("batch-single-generator", "batch", "for the batch: {}"),
    ("init-noise-sigma-missing", "scale", "and scaled by {}"),
    ("latent-transposed", "arrangement", "in the layout {}"),
)
_FIXES = {
    "seed": "give both sides the same seed explicitly (the reference's is {})",
    "generator-device": "draw on the {0} generator in the candidate: torch.Generator({0!r}).manual_seed(seed)",
    "randn-dtype": "draw the noise in {} and convert afterwards",
    "rng-consumed-by-earlier-draw": "draw the initial noise from a generator of its own ({} earlier draws in the reference)",
    "batch-single-generator": "draw the batch as the reference does ({})",
    "init-noise-sigma-missing": "scale the initial noise by {}, as the reference does",
    "latent-transposed": "draw the noise in the reference's layout ({})",
}


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
