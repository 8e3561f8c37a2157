"""Inside a network: which module is the first to depart when both sides get the same inputs?

Modules of two implementations share no names, so they are paired by their parameters and outputs
(`measure.alignment`). The first pair that stands out is the place, unless that module already *received* something else:
then code between modules made the difference, and the module around it is the place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re

import torch

from whydiff.engine.lab import OTHER, Lab
from whydiff.evidence.floor import STANDS_OUT, mover, own_ulp
from whydiff.evidence.recording.calls import called_alike
from whydiff.evidence.recording.diffusers_probes import denoisers
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.alignment import Alignment, ModulePair, Output, align
from whydiff.measure.compare import relative_l2
from whydiff.measure.pairing import Sought, with_functions
from whydiff.measure.pairing.outputs import arranged, difference
from whydiff.places import stage_of

CONTAINERS = (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)


@dataclasses.dataclass(frozen=True)
class ModuleWalk:
    """Networks of one stage on the same inputs, module by module. `first`: the first pair beyond its floor.

    `culprit` is the candidate's module that makes the difference, `culprit_reference` its counterpart where there is one.
    """

    step: int | None
    alignment: Alignment
    floors: dict[str, float]  # by the reference's module
    first: ModulePair | None
    culprit: str | None = None
    culprit_reference: str | None = None
    itself: bool = True  # the first module to depart is the culprit; False: it received other inputs, from code around it


def module_walk(lab: Lab, step: int | None = 0, changes: dict | None = None, stage: str = "model_forward") -> ModuleWalk | None:
    """Run both sides on the reference's inputs with the modules of a stage recorded; None if one side cannot be looked into.

    `step` is the sampler step looked at (None outside the loop); `changes` are the call arguments that repair the candidate.
    """
    if lab.apart or lab.patient != "candidate" or None in lab.sides.values() or not all(module_globs(side, stage) for side in lab.sides.values()):
        return None
    own = lab.traces["reference"]
    lab.said("recording the modules of both sides on the same inputs")
    outputs, sought = {}, {}
    for role in ("reference", "candidate"):  # what a module of one side makes, a function may make on the other
        look = sought[role].look if role in sought else None
        run = recorded(lab, role, step, stage, lab.put_into(role, own), changes, look)
        outputs[role] = module_outputs(run, step)
        sought[OTHER[role]] = Sought(outputs[role])
    if not all(outputs.values()):
        return None
    moved = recorded(lab, "reference", step, stage, mover(own, 0), changes, sought["reference"].look)
    floors = {event.name: own_ulp(event.tensor) for event in outputs["reference"]}
    for event, again in zip(outputs["reference"], module_outputs(moved, step)):
        if event.name == again.name:
            floors[event.name] = max(floors[event.name], relative_l2(event.tensor, again.tensor))
    alignment = align(outputs["reference"], outputs["candidate"], lab.sides["reference"].components, lab.sides["candidate"].components)
    pairing = with_functions(alignment.pairing, sought["candidate"].found, sought["reference"].found)
    lab.modules_compared[stage] = {key: value for key, value in pairing.compared().items() if key.startswith("modules")}
    alignment = Alignment(alignment.pairs, pairing.unpaired_reference, pairing.unpaired_candidate, pairing)
    departing = [pair for pair in alignment.pairs if not pair.difference <= STANDS_OUT * floors[pair.reference]]
    tensors_of = {event.name: event.tensor for event in outputs["reference"]}
    first = next((pair for i, pair in enumerate(departing) if pair.evidence != "contents"
                  or _makes_depart(lab, pair, departing[i + 1 :], tensors_of, step, stage, changes)), None)  # fmt: skip
    if first is None:
        return ModuleWalk(step, alignment, floors, None)
    names = bare(first.reference), bare(first.candidate)
    floor, inside = floors[first.reference], True
    while "/" in names[1] and received_other_inputs(lab, *names, floor, step, changes):
        names, inside = (surrounding(lab.sides["reference"], names[0]), surrounding(lab.sides["candidate"], names[1])), False
    # Further out, counterparts are only certain where names are the same, or where both receive the same.
    known = inside or names[0] == names[1] or ("/" in names[1] and received_the_same(lab, *names, floor, step, changes))
    return ModuleWalk(step, alignment, floors, first, names[1], names[0] if known else None, inside)


def _makes_depart(lab: Lab, pair: ModulePair, later: list[ModulePair], own: dict[str, torch.Tensor], step, stage, changes) -> bool:
    """Blocks around the same layers may end in different places (before or after a residual is added). Is this pair no such
    case: do later modules come nearer to their counterparts when the candidate goes on with what the reference's block made?"""
    which = pair.candidate.partition(")")[0].rpartition("(")[2] if "(" in pair.candidate else ""
    after = next((p for p in later if p.evidence != "contents" and not (p.part_reference or p.part_candidate) and p.reference in own
                  and (not which or f"({which})" in p.candidate)), None)  # fmt: skip
    module = find(lab.sides["candidate"], bare(pair.candidate))
    if after is None or module is None:
        return after is None
    number = int((re.search(r" output (\d+)", pair.candidate) or [0, 0])[1])

    def put(_module, _args, output):
        several = list(output) if type(output) in (tuple, list) else [output]
        if number < len(several) and isinstance(several[number], torch.Tensor) and several[number].numel() == own[pair.reference].numel():
            several[number] = arranged(own[pair.reference], several[number].cpu()).to(several[number])
        return type(output)(several) if type(output) in (tuple, list) else several[0]

    handle = module.register_forward_hook(put)
    try:
        run = recorded(lab, "candidate", step, stage, lab.put_into("candidate", lab.traces["reference"]), changes)
    finally:
        handle.remove()
    again = {event.name: event.tensor for event in module_outputs(run, step)}
    return after.candidate in again and difference(own[after.reference], again[after.candidate]) < 0.5 * after.difference


def module_globs(side: RunnableSide, stage: str) -> list[str]:
    """Globs for the modules of a stage: sampling networks are those whose forward takes a timestep, else by component name."""
    names = list(denoisers(side)) if stage == "model_forward" else []
    names = names or [name for name, part in side.components.items()
                      if isinstance(part, torch.nn.Module) and stage_of("modules", f"{name}/x") == stage]  # fmt: skip
    return [f"{name}/*" for name in names]


class _Enough(BaseException):
    """Ends a run inside the pipeline's own loop once the step of interest is over; no Exception, so that nobody catches it."""


def recorded(lab: Lab, role: str, step: int | None, stage: str, substitute, changes: dict | None, look=None) -> Trace:
    """One run with the modules of a stage recorded at `step`, given up after that step unless the stage comes later.

    `look(name, tensor)` sees what functions return inside those modules at that step.
    """

    def put(place, own):
        if stage != "vae" and place.probe == "latents" and place.step is not None and place.step >= (step or 0):
            raise _Enough
        return substitute(place, own)

    side = lab.sides[role]
    globs = module_globs(side, stage)
    recorder = Recorder(substitute=put, modules=globs, steps=None if step is None else [step], look=look,
                        looked_at=[glob.partition("/")[0] for glob in globs])  # fmt: skip
    lab.runs += 1
    with contextlib.suppress(_Enough):
        side.run(recorder, changes if role == lab.patient else None)
    return recorder.trace


def module_outputs(trace: Trace, step: int | None) -> list[Output]:
    """The recorded outputs of modules at one step, in execution order; a second output or call is named so."""
    found = []
    for place in trace:
        if place.probe.startswith("modules") and place.step in (step, None):
            name = place.module + place.probe.removeprefix("modules").replace("/", " output ")
            name += f" ({place.branch})" if place.branch else ""
            found.append(Output(name + (f" call {place.occurrence + 1}" if place.occurrence else ""), trace[place]))
    return found


def bare(name: str) -> str:
    """`transformer/blocks.0` without the words that tell outputs, branches and calls apart."""
    return name.split(" ", 1)[0]


def received_other_inputs(lab: Lab, reference: str, candidate: str, floor: float, step: int | None, changes: dict | None) -> bool:
    """Did two counterparts receive different inputs, although all inputs of their networks were the same?"""
    seen = received(lab, reference, candidate, step, changes)
    return any(a.numel() == b.numel() and not _agree(a, b, floor) for a, b in seen)


def received_the_same(lab: Lab, reference: str, candidate: str, floor: float, step: int | None, changes: dict | None) -> bool:
    """Did two modules receive the same tensor, first in order and to the floor? Then they do the same work in two trees."""
    seen = received(lab, reference, candidate, step, changes)
    return bool(seen) and seen[0][0].numel() == seen[0][1].numel() and _agree(*seen[0], floor)


def _agree(a: torch.Tensor, b: torch.Tensor, floor: float) -> bool:
    return relative_l2(a, b.reshape(a.shape)) <= STANDS_OUT * max(floor, own_ulp(a))


def received(lab: Lab, reference: str, candidate: str, step: int | None, changes: dict | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What two modules received when both sides ran on the reference's values, tensor by tensor; empty where one is not known."""
    own = lab.traces["reference"]
    modules = {"reference": find(lab.sides["reference"], reference), "candidate": find(lab.sides["candidate"], candidate)}
    if None in modules.values():
        return []
    # Only modules of one class are known to take their arguments in one order.
    most = None if called_alike(*modules.values()) else 1
    inputs: dict[str, list[torch.Tensor]] = {}
    for (role, module), name in zip(modules.items(), (reference, candidate)):
        seen = inputs[role] = []
        handle = module.register_forward_pre_hook(lambda _m, args, kwargs, seen=seen: seen.extend(tensors(args, kwargs)[:most]),
                                                  with_kwargs=True)  # fmt: skip
        try:
            recorded(lab, role, step, stage_of("modules", name), lab.put_into(role, own), changes)
        finally:
            handle.remove()
    return list(zip(inputs["reference"], inputs["candidate"]))


def tensors(args, kwargs) -> list[torch.Tensor]:
    """Copies of the tensors a module received."""
    return [value.detach().cpu().clone() for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]


def find(side: RunnableSide, name: str) -> torch.nn.Module | None:
    component, _, dotted = name.partition("/")
    root = side.components.get(component)
    try:
        return root.get_submodule(dotted) if root is not None else None
    except AttributeError:
        return None


def surrounding(side: RunnableSide, name: str) -> str:
    """The module whose code calls `name`: the nearest one around it that is no mere container."""
    component, _, dotted = name.partition("/")
    while "." in dotted:
        dotted = dotted.rpartition(".")[0]
        if not isinstance(find(side, f"{component}/{dotted}"), CONTAINERS):
            return f"{component}/{dotted}"
    return component
