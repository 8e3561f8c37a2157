"""Keys and values of an attention that are those of an earlier step: a cache that is not filled again when its context changes.

What is asked is that the healthy side's module, with its own keys and values of an earlier step and everything else of this
one, puts out what the other side does. A whole output of an earlier step is another matter (`causes.calls.reused`).
"""

from __future__ import annotations

import contextlib
import re

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import distance

OTHER = {"reference": "candidate", "candidate": "reference"}
MAKERS = r"(?i)(^|[._/])((add_)?[kv]_proj|(to_|w)[kv]|to_kv|(add_)?kv(_proj)?|key|value)$"
EARLIER = 3  # steps before that are tried, besides the first


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """`kv-cache-not-refreshed`, for a module at a step after the first."""
    if not inside.can_run or inside.stage != "model_forward" or not inside.step or inside.gap() == 0.0:
        return None
    for role in ("reference", "candidate"):
        makers = _makers(inside.names[role], inside.modules[role])
        if not makers:
            continue
        values = _recorded(lab, role, makers, inside.step)
        target = inside.outputs()[OTHER[role]]
        for step in dict.fromkeys([*range(inside.step - 1, max(inside.step - 1 - EARLIER, -1), -1), 0]):
            for chosen in _choices(makers, values, step):
                after = _with(inside, role, chosen)
                if after is not None and inside.closes(target, after):
                    return _named(inside, role, step, sorted(chosen), makers)
    return None


def _named(inside: Inside, role: str, step: int, chosen: list[str], makers: dict) -> Explanation:
    departs = OTHER[role]
    return Explanation(
        id="kv-cache-not-refreshed", stage="caching_parallel", departs=departs, explained=1.0, module=inside.name,
        statement=f"at step {inside.step}, {inside.names[departs]} of the {departs} uses keys and values of step {step}, although their "
                  "context has changed since",
        relation={"kind": "keys_of_step", "side": departs, "step": inside.step, "of_step": step, "modules": chosen},
        experiment=f"ran the {role}'s {inside.names[role]} on its inputs of step {inside.step} with what {', '.join(chosen[:4])} put out at "
                   f"step {step}: it puts out what the {departs}'s does",
        fix=f"fill the cache of keys and values of {inside.names[departs]} in the {departs} again whenever its context changes")  # fmt: skip


def _makers(name: str, module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers in a module (or it alone) that make keys and values, by name; none in a module of several attentions."""
    found = {f"{name}.{dotted}" if dotted else name: inner for dotted, inner in module.named_modules()
             if re.search(MAKERS, dotted or name) and hasattr(inner, "weight")}  # fmt: skip
    return found if len(found) <= 8 else {}


def _recorded(lab, role: str, makers: dict, step: int) -> dict[str, dict[int, list[torch.Tensor]]]:
    """What the layers put out at each step up to this one, a tensor for each call, when both sides get the reference's values."""
    trace = lab.run(role, substitute=lab.put_into(role, lab.traces["reference"]), modules=list(makers), steps=list(range(step + 1)))
    found: dict[str, dict[int, list[torch.Tensor]]] = {name: {} for name in makers}
    for place in trace:
        if place.probe == "modules" and place.module in found and place.step is not None:
            found[place.module].setdefault(place.step, []).append(trace[place])
    return found


def _choices(makers: dict, values: dict, step: int):
    """Which layers put out what they did at that step: all, those of one stream, keys or values alone."""
    known = {name: values[name][step] for name in makers if step in values[name]}
    tried = []
    either = r"(?i)[._/](add_|to_|w)?"
    for pattern in ("", r"(^|[._/])(?!add_)\w+$", r"(^|[._/])add_\w+$", either + "(k|key|k_proj)$", either + "(v|value|v_proj)$"):
        chosen = {name: known[name] for name in known if re.search(pattern, name)}
        if chosen and chosen.keys() not in tried:
            tried.append(chosen.keys())
            yield chosen


def _with(inside: Inside, role: str, chosen: dict[str, list[torch.Tensor]]):
    """What a side puts out when these layers put out earlier values; None where the values have changed nowhere.

    A step may call a layer more than once (prompt and negative prompt); the number of the call is that of the module looked at.
    """
    number = _number(inside.calls[role].key)
    changed = []

    def put(values):
        def hook(_module, _args, output):
            value = values[min(number, len(values) - 1)]
            if not isinstance(output, torch.Tensor) or value.shape != output.shape:
                raise TypeError("another shape than at the earlier step")
            changed.append(distance(output, value) > 0.0)
            return value.to(output)

        return hook

    own = inside.modules[role]
    handles = []
    for name, values in chosen.items():
        dotted = name[len(inside.names[role]) :].lstrip(".")
        handles.append((own.get_submodule(dotted) if dotted else own).register_forward_hook(put(values)))
    try:
        with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError):
            after = inside.run(role)
            return after if any(changed) else None
        return None
    finally:
        for handle in handles:
            handle.remove()


def _number(key: str) -> int:
    found = re.search(r" call (\d+)$", key)
    return int(found[1]) - 1 if found else 0
