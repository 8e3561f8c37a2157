"""Inside a network: which modules make a difference by themselves when all inputs, down to each module's, are the same?

All modules of the candidate are fed what their counterparts in the reference received and returned. One that still
returns something else does so by its own operation; one that hands something else to a module inside it, by its own
code. Counterparts share a name; where the sides are built differently they are paired by their outputs
(`engine.modules`), and the first pair to depart is the place.
"""

from __future__ import annotations

import contextlib
import math
import re

import torch

from whydiff.causes.inside.inside import Inside
from whydiff.engine.handed import between
from whydiff.engine.modules import find, module_walk, surrounding
from whydiff.evidence.floor import LOUD, STANDS_OUT, one_ulp, own_ulp
from whydiff.evidence.recording.calls import Call, CallRecorder, called_alike, distance, tensors_in
from whydiff.evidence.recording.diffusers_probes import denoisers
from whydiff.evidence.traces.trace import Trace
from whydiff.places import family, stage_of

# From this share of calls with a counterpart of the same name on, names are trusted to tell counterparts.
BUILT_ALIKE = 0.5


class _Enough(BaseException):
    """Ends a run once what is looked for is over; no Exception, so that no pipeline catches it."""


def inside(lab, step: int | None, changes: dict | None, stage: str) -> tuple[list[Inside], Trace | None]:
    """The modules of a stage that make a difference by themselves, in the order in which their calls end; and the candidate's
    run with all of them repaired (None where sides are built differently)."""
    parts = {role: components(side, stage) for role, side in lab.sides.items() if side is not None}
    if lab.patient != "candidate" or len(parts) < 2 or not all(parts.values()):
        return [], None
    lab.said("feeding every module what its counterpart received")
    reference, _ = _calls(lab, "reference", parts, step, stage, changes)
    if not reference:
        return [], None
    own, _ = _calls(lab, "candidate", parts, step, stage, changes)
    if not built_alike(own, reference):
        return _by_alignment(lab, reference, own, step, stage, changes), None
    moved = _moved(lab, parts, step, stage, changes, reference)
    forced, trace = _calls(lab, "candidate", parts, step, stage, changes, counterpart=reference.get)
    quieter = _moved(lab, parts, step, stage, changes, reference, "candidate") if any_loud(reference, moved) else {}
    return _culprits(lab, reference, moved, forced, reference.get, step, stage, quieter), trace


def any_loud(calls: dict[str, Call], moved: dict[str, Call]) -> bool:
    """Does some module move more under rounding than the type of its output accounts for? It computes more coarsely inside."""
    return any(_finite(distance(call.output, moved[key].output)) > LOUD * _ulp(call.output) > 0
               for key, call in calls.items() if key in moved)  # fmt: skip


def components(side, stage: str) -> list[str]:
    """The components of a stage: networks whose forward takes a timestep, else those with such names."""
    names = list(denoisers(side)) if stage == "model_forward" else []
    return names or [name for name, part in side.components.items()
                     if isinstance(part, torch.nn.Module) and stage_of("modules", f"{name}/x") == stage]  # fmt: skip


def _calls(lab, role, parts, step, stage, changes, **options) -> tuple[dict[str, Call], Trace]:
    """The calls of one run on the reference's values, given up as soon as the stage is over."""
    put = lab.put_into(role, lab.traces["reference"])

    def substitute(place, own):
        late = place.probe in ("latents", "noise_pred") and place.step is not None and place.step >= (step or 0)
        if (stage == "model_forward" and late) or (stage == "prompt_encoding" and family(place.probe) in ("latent_model_input", "model_input")):
            if place.probe != "noise_pred":
                raise _Enough
        return put(place, own)

    recorder = CallRecorder(parts[role], step if stage == "model_forward" else None, substitute=substitute, **options)
    lab.runs += 1
    with contextlib.suppress(_Enough):
        lab.sides[role].run(recorder, changes if role == lab.patient else None)
    return {key: call for key, call in recorder.calls.items() if call.done >= 0}, recorder.trace


def _moved(lab, parts, step, stage, changes, reference, role="reference") -> dict[str, Call]:
    """A side with every module's inputs and output moved by one ulp: what rounding alone makes of each module."""
    generator = torch.Generator().manual_seed(0)
    return _calls(lab, role, parts, step, stage, changes, counterpart=reference.get,
                  pick=lambda tensor: one_ulp(tensor.cpu(), generator).to(tensor.device))[0]  # fmt: skip


def built_alike(own: dict[str, Call], reference: dict[str, Call]) -> bool:
    """Do most calls of the candidate have a namesake with outputs of the same size?"""
    shared = [key for key, call in own.items() if key in reference and _sizes(call.output) == _sizes(reference[key].output)]
    return len(shared) >= BUILT_ALIKE * max(len(own), 1)


def _by_alignment(lab, reference, own, step, stage, changes) -> list[Inside]:
    """Sides built differently: the first module whose output departs from that of its counterpart."""
    walk = module_walk(lab, step, changes, stage)
    if walk is None or walk.culprit is None:
        return _networks(lab, reference, own, step, stage)
    key = first_call(walk.first.candidate, walk.culprit, own)
    other = reference.get(first_call(walk.first.reference, walk.culprit_reference, reference)) if walk.culprit_reference else None
    floor = walk.floors[walk.first.reference]
    entry = _inside(lab, own.get(key), other, walk.first.difference, floor, step, stage, walk.culprit, walk.culprit_reference)
    return [between(lab, walk, entry, {"reference": reference, "candidate": own})]


def _networks(lab, reference, own, step, stage) -> list[Inside]:
    """Nothing inside corresponds (one side runs what it keeps to itself): whole networks are the place."""
    found = []
    for key, call in own.items():
        other = reference.get(key)
        if "/" not in call.name and other is not None:
            made, floor = distance(other.output, call.output), _ulp(other.output, call.output)
            if made > STANDS_OUT * floor:
                found.append(_inside(lab, call, other, made, floor, step, stage))
    return found


def first_call(paired: str, culprit: str, calls: dict[str, Call]) -> str:
    """The key of the culprit's call: that of the pair itself, or the one around it."""
    key = re.sub(r" (output \d+|\(\w+\))", "", paired)
    while key in calls and calls[key].name != culprit and calls[key].parent:
        key = calls[key].parent
    return key if key in calls and calls[key].name == culprit else culprit


def _sizes(tree) -> list[int]:
    return [tensor.numel() for tensor in tensors_in(tree)]


def _culprits(lab, reference, moved, forced, partner, step, stage, quieter) -> list[Inside]:
    found: dict[str, Inside] = {}
    for call in sorted(forced.values(), key=lambda call: call.done):
        other = partner(call.key)
        if other is None:
            continue
        foreign = not called_alike(call.module, other.module)
        near = moved.get(other.key)
        rounding = min(_ulp(call.output) or 1.0, _ulp(other.output) or 1.0) % 1.0  # the finer of two types; 0 where neither rounds
        received = distance(other.inputs, call.inputs, foreign or _other_names(other, call))
        floor = max(rounding, _finite(distance(other.inputs, near.inputs)) if near else 0.0)
        if received > STANDS_OUT * floor and not (foreign and not math.isfinite(received)):
            _blame(found, lab, call, other, received, floor, step, stage, forced, partner)
        made = distance(other.output, call.output, foreign)
        if _types(call.output) != _types(other.output):  # the coarser type's rounding is what is looked for, and no noise
            floor = rounding
        else:
            floor = max(rounding, _finite(distance(other.output, near.output)) if near else 0.0)
        own = quieter.get(call.key)
        if own is not None and floor > LOUD * rounding:
            floor = min(floor, max(rounding, _finite(distance(call.output, own.output))))
        if made > STANDS_OUT * floor and call.key not in found:
            found[call.key] = _inside(lab, call, other, made, floor, step, stage)
    return list(found.values())


def _blame(found, lab, call, other, received, floor, step, stage, forced, partner) -> None:
    """What a module receives is made by the code around it: the call it was made from, or the component's own method."""
    parent = forced.get(call.parent) if call.parent else None
    key = parent.key if parent else surrounding(lab.sides["candidate"], call.name)
    if parent is None and key == call.name and call.parent is None and "/" not in call.name:
        return
    if key in found:
        if found[key].why == "input":
            found[key].handed[call.name] = received
        return
    if parent is not None and partner(parent.key) is None:  # a wrapper without counterpart: no inputs to compare
        return
    counterpart = partner(parent.key) if parent else None
    entry = _inside(lab, parent, counterpart, received, floor, step, stage, key, surrounding(lab.sides["reference"], other.name))
    entry.why, entry.where, entry.handed = "input", call.name, {call.name: received}
    entry.received = (tensors_in(other.inputs), tensors_in(call.inputs))
    found[key] = entry


def _inside(lab, call, other, difference, floor, step, stage, name=None, name_reference=None) -> Inside:
    names = {"reference": other.name if other else name_reference, "candidate": call.name if call else name}
    modules = {role: find(lab.sides[role], names[role]) if names[role] else None for role in names}
    roots = {role: lab.sides[role].components.get((names[role] or "").partition("/")[0]) for role in names}
    return Inside(names, modules, roots, {"reference": other, "candidate": call}, difference, floor, step, stage)


def _other_names(one: Call, other: Call) -> bool:
    return one.inputs.keys() != other.inputs.keys()


def _ulp(*trees) -> float:
    return max((own_ulp(tensor) for tree in trees for tensor in tensors_in(tree)), default=0.0)


def _types(tree) -> list[torch.dtype]:
    return [tensor.dtype for tensor in tensors_in(tree)]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
