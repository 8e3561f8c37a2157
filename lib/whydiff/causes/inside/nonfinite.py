"""Values that are not finite: where they begin, and whether more precision takes them away."""

from __future__ import annotations

import contextlib
import copy

import torch
from torch.utils._pytree import tree_map

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.functions import Watch
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import tensors_in

OTHER = {"reference": "candidate", "candidate": "reference"}
LOW = (torch.float16, torch.bfloat16)


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """One side overflows: the same module in float32, on the same inputs, is finite."""
    if not inside.can_run:
        return None
    finite = {role: all(bool(t.isfinite().all()) for t in tensors_in(inside.outputs()[role]) if t.is_floating_point()) for role in OTHER}
    if finite["reference"] == finite["candidate"]:
        return None
    departs = "candidate" if finite["reference"] else "reference"
    wide = _without_casts(inside, departs)
    if not wide:
        return None
    id_, equivalent = {"vae": ("vae-fp16-nan", ()), "prompt_encoding": ("text-encoder-nonfinite", ("fp32-exempt-modules-lost",))}.get(
        inside.stage, ("dit-fp16-overflow", ("engine-fp16-nonfinite",)))  # fmt: skip
    bad = sum(int((~t.isfinite()).sum()) for t in tensors_in(inside.outputs()[departs]) if t.is_floating_point())
    return Explanation(
        id=id_, statement=f"{inside.names[departs]} of the {departs} overflows 16-bit floating point: {bad} of its values are not finite",
        relation={"kind": "nonfinite", "side": departs, "count": bad}, explained=1.0, departs=departs, equivalent=list(equivalent),
        experiment=f"ran the {departs}'s {inside.names[departs]} in float32 on the same inputs: all values are finite", module=inside.name,
        fix=f"run {inside.names[departs]} of the {departs} in float32 or bfloat16")  # fmt: skip


def _without_casts(inside: Inside, role: str) -> bool:
    """Is the module finite when neither its weights nor anything it computes is in a 16-bit type? False also where it has none."""
    call, touched = inside.calls[role], []
    module = inside.modules[role]
    weights = [p for p in module.parameters() if p.dtype in LOW]
    inputs = [t for t in tensors_in((call.args, call.kwargs)) if t.dtype in LOW]
    if any(not p.isfinite().all() for p in weights):
        # The weights themselves do not fit: the other side's exceed the largest number of the type.
        other = dict(inside.modules[OTHER[role]].named_parameters())
        return any(not p.isfinite().all() and name in other and other[name].abs().max() > torch.finfo(p.dtype).max
                   for name, p in module.named_parameters())  # fmt: skip

    def choose(_index, name, _site):
        return _kept_wide(touched) if name in ("half", "bfloat16", "to", "type") else None

    wide = copy.deepcopy(module).float() if weights else module
    wide.__dict__.pop("forward", None) if weights else None
    args, kwargs = tree_map(lambda v: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v, (call.args, call.kwargs))
    with contextlib.suppress(RuntimeError, TypeError), torch.no_grad(), Watch(choose=choose):
        output = wide(*args, **kwargs)
        return bool(touched or weights or inputs) and all(bool(t.isfinite().all()) for t in tensors_in(output) if t.is_floating_point())
    return False


def _kept_wide(touched: list):
    """A cast to a 16-bit type that leaves the type as it is."""

    def apply(function, x, *args, **kwargs):
        result = function(x, *args, **kwargs)
        if isinstance(result, torch.Tensor) and result.dtype in LOW and x.dtype not in LOW:
            touched.append(True)
            return x
        return result

    return apply
