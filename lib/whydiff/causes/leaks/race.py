"""A layer that computes with another layer's weights, at some of its calls: a copy of weights that was read before it was complete.

Every innermost module is watched for one run. What its own weights make of what it received is computed again beside it;
where that is not what it put out, although it is at its other calls, weights of the same shape from elsewhere are tried.
"""

from __future__ import annotations

import copy
import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.leaks.leak import Leak
from whydiff.measure.compare import relative_l2

ROUNDINGS = 64.0  # other kernels sum in another order; several dozen roundings are still rounding
MOST = 24  # calls kept, of one run


@dataclasses.dataclass
class Odd:
    """A call whose output is not what the module's own weights make of its input."""

    name: str
    module: torch.nn.Module
    args: tuple
    output: torch.Tensor
    number: int  # of this module's calls in the run


def explain(leak: Leak, lab) -> Explanation | None:
    """`offload-stream-race` where a side parts from itself: which module, at which calls, with whose weights."""
    return _named(leak.role, leak.place.probe, lab)


def explain_finding(finding: Finding, lab) -> list[Explanation]:
    """The same where the sides part at some steps and agree at others: what is built differently differs at every step."""
    steps = {p.step for p in finding.places}
    if None in steps or steps >= {p.step for p in finding.reference} | {p.step for p in lab.traces["reference"].at(finding.probe)}:
        return []
    for role in ("candidate", "reference"):
        found = _named(role, finding.probe, lab) if lab.sides[role] is not None else None
        if found is not None:
            found.covers = {"noise_pred_text", "noise_pred_uncond"}
            return [found]
    return []


def _named(role: str, probe: str, lab) -> Explanation | None:
    side = lab.sides[role]
    odd, calls = watch(lab, role) if side is not None else ([], {})
    for one in odd:
        donor = whose(one, side)
        if donor is not None:
            at = [o.number for o in odd if o.name == one.name]
            return Explanation(
                id="offload-stream-race", stage="caching_parallel", probe=probe, module=one.name, departs=role, explained=1.0,
                statement=f"{role}: at call {one.number + 1} of {calls[one.name]} in a run, {one.name} computes with the weights of {donor}, "
                          "and with its own at others",
                relation={"kind": "weights_of_another", "side": role, "module": one.name, "weights_of": donor, "calls": at[:16]},
                experiment=f"computed every call of every layer again beside a run: only {len(odd)} differ from what the layer's own weights "
                           f"make of its input; with {donor}'s in their place the output is the same",
                fix="wait for the copy of a layer's weights to end before it is called (or switch the streams off)")  # fmt: skip
    return None


def watch(lab, role: str) -> tuple[list[Odd], dict[str, int]]:
    """One run of a side: the odd calls of modules whose other calls are as they should be, and how often each was called."""
    side = lab.sides[role]
    odd: list[Odd] = []
    calls: dict[str, int] = {}
    wrong: dict[str, int] = {}

    def hook(name):
        def after(module, args, output):
            number = calls[name] = calls.get(name, -1) + 1
            if not isinstance(output, torch.Tensor) or not output.is_floating_point():
                return
            if not alike(again(module, args), output):
                wrong[name] = wrong.get(name, 0) + 1
                if len(odd) < MOST and wrong[name] <= 2:
                    odd.append(Odd(name, module, tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in args), output.clone(), number))

        return after

    handles = []
    try:
        for component, root in side.components.items():
            for dotted, module in root.named_modules() if isinstance(root, torch.nn.Module) else ():
                if dotted and "weight" in module._parameters and not any(True for _ in module.children()):
                    handles.append(module.register_forward_hook(hook(f"{component}/{dotted}"), prepend=True))
        lab.run(role)
    finally:
        for handle in handles:
            handle.remove()
    calls = {name: last + 1 for name, last in calls.items()}
    return [o for o in odd if wrong[o.name] < calls[o.name]], calls


def again(module: torch.nn.Module, args: tuple, weight: torch.Tensor | None = None, bias=None) -> torch.Tensor | None:
    """What a module's class makes of `args` with its own parameters, or with `weight` (and `bias`) in their place."""
    twin = copy.copy(module)
    twin._parameters = dict(module._parameters)
    if weight is not None:
        twin._parameters["weight"] = weight
        if bias is not None:
            twin._parameters["bias"] = bias
    device = next((a.device for a in args if isinstance(a, torch.Tensor)), None)
    twin._parameters = {k: v if v is None else v.to(device) for k, v in twin._parameters.items()}
    try:
        made = type(module).forward(twin, *args)
    except (RuntimeError, TypeError, ValueError):
        return None
    return made if isinstance(made, torch.Tensor) else None


def alike(made: torch.Tensor | None, output: torch.Tensor) -> bool:
    """Rounding apart, the same; also where the call could not be computed again."""
    if made is None or made.shape != output.shape or made.dtype != output.dtype:
        return True
    return torch.equal(made, output) or not relative_l2(made, output) > ROUNDINGS * torch.finfo(output.dtype).eps


def whose(odd: Odd, side) -> str | None:
    """The module whose weight, in place of the own one, makes the output of an odd call: in all rows, or in those that are odd."""
    own = again(odd.module, odd.args)
    scale = odd.output.abs().amax().clamp_min(1e-30)
    apart = (own - odd.output).abs() > ROUNDINGS * torch.finfo(odd.output.dtype).eps * scale
    for component, root in side.components.items():
        for dotted, other in root.named_modules() if isinstance(root, torch.nn.Module) else ():
            weight = other._parameters.get("weight") if other is not odd.module else None
            if weight is None or weight.shape != odd.module.weight.shape or torch.equal(weight, odd.module.weight):
                continue
            for bias in (None, other._parameters.get("bias")):
                made = again(odd.module, odd.args, weight, bias)
                if made is not None and torch.allclose(made[apart], odd.output[apart], rtol=0, atol=float(ROUNDINGS * torch.finfo(
                        odd.output.dtype).eps * scale)):  # fmt: skip
                    return f"{component}/{dotted}"
    return None
