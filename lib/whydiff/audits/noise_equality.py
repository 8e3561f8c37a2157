"""Do both sides start from the same noise? If not, how is each drawn?"""

from __future__ import annotations

import contextlib

from whydiff.audits.judge import both, judged, lies_in, sentences
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.unspecified import left_to_defaults
from whydiff.errors import Trouble
from whydiff.measure.compare import compare

NAME = "noise_equality"
QUESTION = "Do both sides start from the same noise, and by which recipe is each drawn?"
PROBES = ("initial_noise", "initial_latents", "step_noise", "init_image", "mask", "image_latents")
FIELDS = (
    ("seed", "seed"),
    ("device", "generator's device"),
    ("dtype", "dtype of the draw"),
    ("skipped", "earlier draws of its generator"),
    ("scale", "scaled by"),
    ("layout", "layout"),
)

concerns = lies_in(stages=("rng_noise",), probes=PROBES)


def audit(study) -> AuditResult:
    """Both draws compared, and the recipe that draws each of them again."""
    probe = next((p for p in ("initial_noise", "initial_latents") if None not in both(study, p).values()), "initial_noise")
    noise = both(study, probe)
    found = {role: recipe_of(study, tensor) for role, tensor in noise.items()}
    findings = [*sentences(study, concerns), *_recipes(found, noise), *_packing(study), *left_to_defaults(study, "noise")]
    pair = _in_one_layout(study, probe)
    figures = compare(*pair) if pair is not None else None
    rows = [
        ("shape", *(None if t is None else tuple(t.shape) for t in noise.values())),
        ("dtype", *(None if t is None else str(t.dtype).removeprefix("torch.") for t in noise.values())),
        ("mean (0 expected)", *(None if t is None else t.double().mean().item() for t in noise.values())),
        ("standard deviation (1 expected)", *(None if t is None else t.double().std().item() for t in noise.values())),
    ]
    rows += [(label, *(_field(found[role], field) for role in ("reference", "candidate"))) for field, label in FIELDS]
    if figures is not None:
        rows += [
            ("correlation of the two draws", figures.correlation, ""),
            ("elements that differ", figures.differing, f"of {figures.elements}"),
        ]
    return AuditResult(
        NAME,
        QUESTION,
        judged(study, concerns),
        tuple(findings),
        (probe, "reference", "candidate"),
        tuple(rows),
        {"noise": draws(study), "recipes": found},
    )


def draws(study) -> dict:
    """{"reference": flat array, "candidate": of equal length, "correlation": of the two}, or None for each: what `views.noise_pair` draws."""
    probe = next((p for p in ("initial_noise", "initial_latents") if None not in both(study, p).values()), "initial_noise")
    pair = _in_one_layout(study, probe)
    reference, candidate = _flat(pair, both(study, probe))
    return {"reference": reference, "candidate": candidate, "correlation": None if pair is None else compare(*pair).correlation}


def recipe_of(study, tensor):
    """How a tensor of noise can be drawn again, or None where no recipe is found."""
    from whydiff.causes.noise.draws import seeds_to_try
    from whydiff.formulas.noise import find_recipe

    if tensor is None:
        return None
    with contextlib.suppress(Trouble):  # constant or not finite: no noise
        return find_recipe(tensor, seeds_to_try(study.lab))
    return None


def _recipes(found, noise):
    words = {role: None if recipe is None else str(recipe.words) for role, recipe in found.items()}
    if words["reference"] is not None and words["reference"] == words["candidate"]:
        yield Sentence(f"both sides' noise is {words['reference']}")
        return
    for role, text in words.items():
        if text is not None:
            yield Sentence(f"the {role}'s noise is {text}")
        elif noise[role] is not None:
            yield Sentence(f"no recipe that was tried draws the {role}'s noise again")


def _packing(study):
    """What is done to the draw before the loop starts: the layouts found, and whether each side's is the same step."""
    for probe in ("initial_noise", "initial_latents"):
        layout = study.lab.layouts.get(probe)
        if layout is not None:
            yield Sentence(f"{probe} agrees only under the layout {layout.name}")
    rows = [row for row in study.added if row.place.probe == "initial_latents"]
    if rows and all(row.equal for row in rows):
        yield Sentence("given the same noise, both sides scale and pack it to the same initial latents, bit for bit")


def _in_one_layout(study, probe: str):
    lab = study.lab
    if any(trace is None or not trace.at(probe) for trace in lab.traces.values()):
        return None
    place = lab.traces["candidate"].at(probe)[0]
    return lab.pair(place, lab.traces["candidate"][place])


def _flat(pair, noise) -> tuple:
    """Both draws as flat arrays, for a picture: in one layout, or in the order of memory where none is known; or twice None."""
    a, b = pair if pair is not None else noise.values()
    if a is None or b is None or a.numel() != b.numel():
        return None, None
    return a.flatten().double().numpy(), b.flatten().double().numpy()


def _field(recipe, field: str):
    if recipe is None:
        return "not found"
    value = getattr(recipe, field, None)
    return str(value).removeprefix("torch.") if value is not None and not isinstance(value, (int, float)) else value
