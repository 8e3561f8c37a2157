"""The two predictions are combined differently: which formula, which scale? Works from recorded tensors alone."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share, number, same_parameter
from whydiff.formulas.guidance import GuidanceFormula, combine, fit_guidance
from whydiff.places import Place

# How guidance is spelled in calls and settings, the scale of two predictions before the embedded one.
SCALES = ("true_cfg_scale", "true_guidance_scale", "cfg_scale", "guidance_scale", "cfg", "guidance")


def explain(finding: Finding, lab) -> list[Explanation]:
    """Fit a published formula to what each side made of its two predictions; name the difference if both fits hold."""
    sides = {role: combined(finding, lab, role) for role in ("reference", "candidate")}
    shared = sorted(set(sides["reference"]) & set(sides["candidate"]), key=lambda p: p.step or 0)
    if not shared:
        return []
    mine, theirs = (fit_guidance([sides[role][p] for p in shared]) for role in ("reference", "candidate"))
    if mine is None or theirs is None:
        return []
    share = _share(finding, lab, sides, shared, mine, theirs)
    if share < 0.9:
        return []
    proof = (f"combined the recorded predictions of {len(shared)} step(s) again: the reference's noise_pred is {mine.words}; "
             f"the candidate's is {theirs.words}")  # fmt: skip
    entries = (_sign(mine, theirs), _formula(mine, theirs), _scale(mine, theirs, lab))
    return [entry for entry in entries if entry is not None and _fill(entry, share, proof)]


def combined(finding: Finding, lab, role: str) -> dict[Place, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(cond, uncond, noise_pred) of a side at each place: what it made of the predictions that it was given."""
    # In a forced run both sides combine what the live or recorded other side predicted; otherwise each its own.
    fed = {"candidate": "reference", "reference": "candidate", None: role}[lab.patient]
    source, found = lab.traces[fed], {}
    for place in lab.traces["reference"].at("noise_pred"):
        made = getattr(finding, role).get(place) if lab.patient else None
        if made is None:
            made = lab.own_value(role, place)
            if made is not None and role == "candidate" and lab.patient:
                pair = lab.pair(place, made)
                made = pair[1] if pair else None
        cond, uncond = (prediction(source, name, place) for name in ("noise_pred_text", "noise_pred_uncond"))
        if None not in (made, cond, uncond) and made.shape == cond.shape == uncond.shape:
            found[place] = (cond, uncond, made)
    return found


def prediction(trace, probe: str, place: Place) -> torch.Tensor | None:
    """A branch's prediction at the step (and repeat) of a place, whatever its branch is called."""
    found = [p for p in trace.events if p.probe == probe and p.step == place.step]
    exact = [p for p in found if p.occurrence == place.occurrence]
    return trace[exact[0]] if exact else None


def _share(finding, lab, sides, shared, mine: GuidanceFormula, theirs: GuidanceFormula) -> float:
    """How much of the difference goes when the candidate's predictions are combined as the reference combines them."""
    scores = []
    for i, place in enumerate(shared):
        cond, uncond, made = (t.double() for t in sides["candidate"][place])
        if place not in finding.places:
            continue
        target = sides["reference"][place][2].double()
        if lab.patient is None:  # inputs of later steps may differ already: compare formulas on the candidate's inputs
            target = _apply(mine, cond, uncond, i)
        scores.append(explained_share(target, made, _apply(mine, cond, uncond, i)))
    return min(scores, default=0.0)


def _apply(formula: GuidanceFormula, cond, uncond, index: int) -> torch.Tensor:
    if index < formula.zero_steps:
        return torch.zeros_like(cond)
    return formula.sign * combine(formula.kind, cond, uncond, formula.scales[index - formula.zero_steps], formula.over or "sample", formula.phi)


def _fill(entry: Explanation, share: float, proof: str) -> bool:
    entry.explained, entry.experiment, entry.stage = share, proof, entry.stage or "guidance"
    return True


def _named(id_: str, statement: str, relation: dict, fix: str, equivalent=(), departs: str = "unknown", stage=None) -> Explanation:
    return Explanation(id=id_, stage=stage, statement=statement, relation=relation, explained=0.0, experiment="", fix=fix, departs=departs,
                       equivalent=list(equivalent))  # fmt: skip


def _sign(mine: GuidanceFormula, theirs: GuidanceFormula) -> Explanation | None:
    """One side negates what it combined, and the other does not; this beside another formula or scale."""
    if mine.sign == theirs.sign:
        return None
    return _named("velocity-sign", "the sign of the candidate's guided prediction is reversed", {"kind": "sign", "factor": -1.0},
                  "negate the guided prediction on both sides or on neither (velocity is noise minus image in flow matching)",
                  departs="unknown", stage="model_forward")  # fmt: skip


def _formula(mine: GuidanceFormula, theirs: GuidanceFormula) -> Explanation | None:
    """Another formula, apart from its scale."""
    shapes = [(f.kind, f.over, f.zero_steps, None if f.phi is None else round(f.phi, 3)) for f in (mine, theirs)]
    if shapes[0] == shapes[1]:
        return None
    relation = {"kind": "guidance_formula", "reference": mine.words, "candidate": theirs.words}
    kinds = {mine.kind, theirs.kind}
    words = f"candidate combines the two predictions as {theirs.words}; the reference as {mine.words}"
    fix = f"combine the predictions on both sides as {mine.words}"
    if "zero_star" in kinds or mine.zero_steps != theirs.zero_steps:
        return _named("cfg-zero-star", words, relation | {"zero_steps": [mine.zero_steps, theirs.zero_steps]}, fix)
    if "norm" in kinds:
        return _named("cfg-norm-missing", words, relation, fix)
    if "rescaled" in kinds:
        return _named("guidance-rescale", words, relation | {"phi": [mine.phi or 0.0, theirs.phi or 0.0]}, fix)
    return _named("guidance-projected", words, relation, fix)


def _scale(mine: GuidanceFormula, theirs: GuidanceFormula, lab) -> Explanation | None:
    """Another scale, in the same or another formula."""
    curves = [dict(enumerate(f.scales, f.zero_steps)) for f in (mine, theirs)]
    shared = set(curves[0]) & set(curves[1])
    if all(same_parameter(curves[0][i], curves[1][i]) for i in shared):
        return None
    if not (mine.constant and theirs.constant):
        return _curve(mine, theirs)
    a, b = mine.scale, theirs.scale
    words = (f"candidate combines the two predictions with scale {number(round(b, 5))}, "
             f"the reference with {number(round(a, 5))}")  # fmt: skip
    relation = {"kind": "setting", "setting": "guidance_scale", "reference": a, "candidate": b}
    asked = {role: stated(lab, role) for role in ("reference", "candidate")}
    if same_parameter(a + b, 1):
        return _named("cond-uncond-swapped", "candidate exchanges the conditional and the unconditional prediction",
                      {"kind": "swapped", "reference": a, "candidate": b}, "check the order in which the batch is stacked and split",
                      departs=who(asked, a, b))  # fmt: skip
    if same_parameter(abs(a - b), 1) and not _each_its_own(asked, a, b):
        larger = "candidate" if b > a else "reference"
        return _named("cfg-formula-offset", f"{words}: {larger} adds the guidance to cond instead of uncond, an effective scale of s + 1",
                      relation | {"kind": "guidance_offset"}, f"combine as uncond + s (cond - uncond) in the {larger}, "
                      f"or pass it a scale that is 1 smaller", ["guidance-scale"], larger)  # fmt: skip
    return _named(*scale_id(asked, a, b), words, relation, f"pass guidance_scale={number(round(a, 5))} to both sides",
                  _silent(asked, a, b), who(asked, a, b))  # fmt: skip


def scale_id(asked: dict, a: float, b: float) -> tuple[str]:
    """`zero-value-treated-as-missing` where a side was told 0 and uses something else, else `guidance-scale`."""
    for role, used in (("reference", a), ("candidate", b)):
        if any(origin and value == 0 for _, value, origin in asked[role]) and not same_parameter(used, 0):
            return ("zero-value-treated-as-missing",)
    return ("guidance-scale",)


def _silent(asked: dict, a: float, b: float) -> list[str]:
    """Ids that stand for a scale which a side was not told, or which we cannot know that it was told."""
    if scale_id(asked, a, b) != ("guidance-scale",):
        return ["guidance-scale", "default-guidance-differs"]
    return [] if _each_its_own(asked, a, b) else ["default-guidance-differs", "saved-preset-drops-parameter"]


def _each_its_own(asked: dict, a: float, b: float) -> bool:
    """Both sides were told what they use."""
    return all(any(origin and same_parameter(value, used) for _, value, origin in asked[role])
               for role, used in (("reference", a), ("candidate", b)))  # fmt: skip


def who(asked: dict, a: float, b: float) -> str:
    """The side that uses another scale than it was told; unknown where both or none do."""
    off = [role for role, used in (("reference", a), ("candidate", b))
           if any(origin for *_, origin in asked[role]) and not any(same_parameter(v, used) for _, v, o in asked[role] if o)]  # fmt: skip
    return off[0] if len(off) == 1 else "unknown"


def _curve(mine: GuidanceFormula, theirs: GuidanceFormula) -> Explanation:
    shown = [[float(f"{s:.4g}") for s in f.scales] for f in (mine, theirs)]
    sides = [f"the same {number(round(f.scale, 5))} at every step" if f.constant else f"{', '.join(map(str, s))} step by step"
             for f, s in zip((mine, theirs), shown, strict=True)]  # fmt: skip
    return _named("dynamic-cfg-missing", f"candidate's guidance scale is {sides[1]}, the reference's is {sides[0]}",
                  {"kind": "guidance_curve", "reference": shown[0], "candidate": shown[1]},
                  "make the scale depend on the step on both sides, or on neither")  # fmt: skip


def stated(lab, role: str) -> list[tuple[str, float, bool]]:
    """(setting, value, asked for) of each guidance setting that a side's call, case or own defaults state."""
    side, trace = getattr(lab.case, role), lab.traces[role]
    call = dict(side.live.call) if side.live else {}
    explicit = side.settings | call
    known = (trace.settings if trace is not None else {}) | explicit
    return [(key, float(known[key]), key in explicit) for key in SCALES
            if isinstance(known.get(key), (int, float)) and not isinstance(known[key], bool)]  # fmt: skip
