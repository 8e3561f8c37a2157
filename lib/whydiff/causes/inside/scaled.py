"""Does a network compute as if one number that it receives were 1000 times another? Both sides received the same number."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.sensitivity import with_argument

# The argument -> (cause, stage). Both are numbers of one scale in checkpoints and of another in some code that calls them.
SCALED = {"timestep": ("timestep-scale-1000", "schedule"), "guidance": ("guidance-times-1000", "guidance")}
FACTORS = (1000.0, 0.001)


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """Only whole networks have arguments that callers know by name."""
    if not inside.can_run or "/" in inside.name:
        return None
    target = inside.outputs()["candidate"]
    for name, value in inside.calls["reference"].inputs.items():
        if name not in SCALED or not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.any():
            continue
        for factor in FACTORS:
            after = with_argument(inside, "reference", name, value * factor)
            if after is None or not inside.closes(target, after):
                continue
            id_, stage = SCALED[name]
            size = "large" if factor > 1 else "small"
            return Explanation(
                id=id_, stage=stage, module=inside.name, explained=1.0, departs="unknown",
                statement=f"the candidate's {inside.names['candidate']} computes with a {name} 1000 times too {size}, though both receive the same",
                relation={"kind": "scaled_argument", "argument": name, "factor": factor, "side": "candidate"},
                experiment=f"gave the reference's {inside.names['reference']} {factor:g} times its {name}: it makes what the candidate's does",
                fix=f"scale {name} once: where it is handed to {inside.names['candidate']}, or inside it")  # fmt: skip
    return None
