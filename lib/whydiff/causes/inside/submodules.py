"""Whole modules left out, fed the wrong thing, or run with another layer's weights."""

from __future__ import annotations

import contextlib
import itertools
import re

import torch

from whydiff.causes.finding import Explanation
from whydiff.causes.inside import roles
from whydiff.causes.inside.functions import watched
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import distance, tensors_in

ACTIVATIONS = ("silu", "gelu", "sigmoid", "relu", "tanh", "mish", "leaky_relu", "elu", "softplus")
MOST = 40  # inner modules tried
OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(inside: Inside, lab) -> Explanation | None:
    return _skipped(inside) or _zeroed(inside, lab) or _exchanged(inside) or _of_another_layer(inside, lab)


def _skipped(inside: Inside) -> Explanation | None:
    """A module (this one, or one inside it) puts out what it received; or all norms of queries and keys do."""
    for role in ("reference", "candidate"):
        target = inside.outputs()[OTHER[role]]
        for name, modules in _left_out_together(_inner(inside, role)):
            after = _run(inside, role, modules, _identity)
            if after is None or not inside.closes(target, after):
                continue
            id_ = _skipped_id(name, inside, modules[0])
            departs = OTHER[role]
            words = name if len(modules) == 1 else f"{name} and {len(modules) - 1} more norms of queries and keys"
            if id_ is None:
                inside.found = f"{departs}'s {inside.names[departs]} computes what the {role}'s does without {words}"
                return None
            return Explanation(
                id=id_, statement=f"the {departs} does not apply {words}, which the {role} applies",
                relation={"kind": "module_skipped", "module": name, "side": departs}, explained=1.0, departs=departs, module=inside.name,
                experiment=f"left {words} out of the {role} on the same inputs: {inside.names[role]} then puts out what the {departs}'s does",
                fix=f"apply {name} in the {departs}")  # fmt: skip
    return None


def _left_out_together(inner: list[tuple[str, torch.nn.Module]]):
    """(name, modules): each alone, then all norms of queries and keys, which a model has all of or none of."""
    yield from ((name, [module]) for name, module in inner)
    norms = [(name, module) for name, module in inner if roles.is_qk_norm(name)]
    if len(norms) > 1:
        yield norms[0][0], [module for _, module in norms]


def _skipped_id(name: str, inside: Inside, module) -> str | None:
    if roles.is_qk_norm(name):
        return "qk-norm-config"
    if inside.stage == "vae" and (re.search(r"quant_?conv", name) or _pointwise(module) and "." not in name.partition("/")[2]):
        return "quant-conv-missing"
    return None


def _pointwise(module) -> bool:
    return hasattr(module, "kernel_size") and set(module.kernel_size) == {1}


def _zeroed(inside: Inside, lab) -> Explanation | None:
    """A module inside adds nothing on one side."""
    for role in ("reference", "candidate"):
        target = inside.outputs()[OTHER[role]]
        for name, module in _inner(inside, role)[1:]:
            after = _run(inside, role, [module], _nothing)
            if after is None or not inside.closes(target, after):
                continue
            departs = OTHER[role]
            if not re.search(r"(?i)guidance", name):
                inside.found = f"{departs}'s {inside.names[departs]} computes what the {role}'s does when {name} puts out zeros"
                return None
            probe = _not_received(lab, departs, "guidance")
            if probe is not None and name in dict(_inner(inside, departs)):
                return _never_fed(inside, name, departs, probe)
            return Explanation(
                id="guidance-embedder-dropped", statement=f"the {departs} has no guidance embedder, or does not add what it puts out",
                relation={"kind": "module_without_effect", "module": name, "side": departs}, explained=1.0, departs=departs, module=inside.name,
                experiment=f"set the output of {name} to zero in the {role}: {inside.names[role]} then puts out what the {departs}'s does",
                fix=f"load {name} in the {departs} and set guidance_embeds in its configuration")  # fmt: skip
    return None


def _not_received(lab, role: str, word: str) -> str | None:
    """The probe of an argument that a side's network knows and does without."""
    absent = getattr(lab.traces[role], "absent", ())
    return next((p.probe for p in absent if p.probe.startswith("model_input/") and word in p.probe), None)


def _never_fed(inside: Inside, name: str, departs: str, probe: str) -> Explanation:
    argument = probe.partition("/")[2]
    return Explanation(
        id="guidance-tensor-none", stage="guidance", probe=probe, equivalent=["guidance-embedder-dropped"], departs=departs, module=inside.name,
        statement=f"the {departs}'s network is called without {argument}, so {name} adds nothing",
        relation={"kind": "argument", "argument": argument, departs: None, "module": name}, explained=1.0,
        experiment=f"set the output of {name} to zero in the {OTHER[departs]}: {inside.names[OTHER[departs]]} then puts out what the "
                   f"{departs}'s does, whose network received no {argument}",
        fix=f"pass {argument} to the {departs}'s network, and see that {name} is used")  # fmt: skip


def _exchanged(inside: Inside) -> Explanation | None:
    """Two modules inside that receive the same put out each what the other does: gate and value, keys and values."""
    for role in ("reference", "candidate"):
        target, departs = inside.outputs()[OTHER[role]], OTHER[role]
        made: dict[str, tuple] = {}
        seen = watched(lambda: _noted(inside, role, made))  # noqa: B023
        for (one, (first, a, x)), (other, (second, b, y)) in itertools.combinations(made.items(), 2):
            if type(first) is not type(second) or a.shape != b.shape or x.shape != y.shape or not torch.equal(x, y):
                continue
            swapped = {first: b, second: a}
            after = _run(inside, role, [first, second], None, lambda module: swapped[module].clone())  # noqa: B023
            if after is None or not inside.closes(target, after):
                continue
            if not any(_activates(call, a) or _activates(call, b) for call in seen):
                inside.found = f"{departs}'s {inside.names[departs]} computes what the {role}'s does when {one} and {other} are exchanged"
                return None
            return Explanation(
                id="gate-up-swapped", statement=f"the {departs} exchanges gate and value, which {one} and {other} make in the {role}",
                relation={"kind": "modules_exchanged", "modules": [one, other], "side": departs}, explained=1.0, departs=departs,
                module=inside.name, fix=f"apply the activation in {inside.names[departs]} of the {departs} to the same one as in the {role}",
                experiment=f"exchanged what {one} and {other} put out in the {role}, on the same inputs: then it computes what the "
                           f"{departs} does")  # fmt: skip
    return None


def _activates(call, value: torch.Tensor) -> bool:
    """Does a call put this very tensor through an activation?"""
    first = call.args[0] if call.args else None
    return call.name in ACTIVATIONS and isinstance(first, torch.Tensor) and first.shape == value.shape and torch.equal(first, value)


def _noted(inside: Inside, role: str, made: dict[str, tuple]) -> None:
    """One run, with (module, what it put out, what it received) of each layer inside that has weights and was called once."""
    handles, often = [], set()
    for name, module in _inner(inside, role)[1:]:
        def note(module, args, output, name=name):
            if name in made:
                often.add(name)
            elif isinstance(output, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
                made[name] = module, output.detach().clone(), args[0].detach().clone()
        if module._parameters and not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(note))
    try:
        inside.run(role)
    finally:
        for handle in handles:
            handle.remove()
        for name in often:
            del made[name]


def _of_another_layer(inside: Inside, lab) -> Explanation | None:
    """The module with the weights of another layer of the same component."""
    for role in ("reference", "candidate"):
        mine, departs = inside.modules[role], OTHER[role]
        own = dict(mine.named_parameters())
        if not own or any(True for _ in mine.children()) or inside.roots[role] is None:
            continue
        target = inside.outputs()[departs]
        for name, other in _layers_like(inside.roots[role], mine, own):
            if inside.closes(target, inside.run(role, other)):
                return _named_after(inside, departs, f"{inside.names[role].partition('/')[0]}/{name}", own, dict(other.named_parameters()))
    return None


def _layers_like(root, mine, own):
    """(name, layer) of one kind with weights of the same shapes and other values."""
    for name, other in root.named_modules():
        theirs = dict(other.named_parameters(recurse=False))
        if other is not mine and type(other) is type(mine) and theirs.keys() == own.keys():
            if all(theirs[k].shape == own[k].shape for k in own) and not all(torch.equal(theirs[k], own[k]) for k in own):
                yield name, other


def _named_after(inside: Inside, departs: str, other: str, own: dict, theirs: dict) -> Explanation | None:
    module, role = inside.modules[departs], OTHER[departs]
    if inside.stage == "prompt_encoding" and re.search(r"(?i)bias|position", inside.name):
        id_ = "relative-bias-sharing"
    elif not _holds(module, theirs) and _holds(module, own):
        id_ = "offload-stream-race"  # the weights at rest are right: only this call computed with others
    else:
        inside.found = f"{departs}'s {inside.names[departs]} computes with the weights of {other}"
        return None
    return Explanation(
        id=id_, statement=f"the {departs}'s {inside.names[departs]} computes with the weights of {other}",
        relation={"kind": "weights_of", "module": other}, explained=1.0, module=inside.name, departs=departs,
        experiment=f"ran the {role}'s {other} on the inputs of {inside.names[role]}: it puts out what the {departs} does",
        fix=f"let {inside.names[departs]} of the {departs} use its own weights")  # fmt: skip


def _holds(module, weights: dict) -> bool:
    held = dict(module.named_parameters(recurse=False))
    return held.keys() == weights.keys() and all(held[k].shape == w.shape and distance(w, held[k]) < 1e-3 for k, w in weights.items())


def _inner(inside: Inside, role: str) -> list[tuple[str, torch.nn.Module]]:
    root = inside.modules[role]
    found = [(f"{inside.names[role]}.{name}" if name else inside.names[role], module) for name, module in root.named_modules()]
    return found[: MOST + 1]


def _run(inside: Inside, role: str, modules: list, hook, instead=None):
    """The side's run with what these modules put out changed by `hook(args, kwargs, output)`, or made by `instead(module)`."""
    touched = []

    def replace(module, args, kwargs, output):
        changed = hook(args, kwargs, output) if instead is None else instead(module)
        if changed is not None:
            touched.append(True)
        return changed

    handles = [module.register_forward_hook(replace, with_kwargs=True) for module in modules]
    try:
        with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            after = inside.run(role)
            return after if touched else None
        return None
    finally:
        for handle in handles:
            handle.remove()


def _identity(args, kwargs, output):
    received = tensors_in((args, kwargs))
    if not isinstance(output, torch.Tensor) or not received or received[0].shape != output.shape:
        return None
    return received[0]


def _nothing(_args, _kwargs, output):
    return torch.zeros_like(output) if isinstance(output, torch.Tensor) else None
