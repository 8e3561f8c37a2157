"""Tiny modules in pairs: a healthy one, a damaged copy, and the inputs both get, as an `Inside` for experiments."""

import copy
import types

import torch
from torch.utils._pytree import tree_map

from whydiff.causes.inside.inside import Inside
from whydiff.evidence.recording.calls import Call, bound


def pair(module, damage, *args, name="transformer/block", stage="model_forward", role="candidate", **kwargs) -> Inside:
    """`damage` is done to a copy of `module`, which is the side `role`."""
    torch.manual_seed(0)
    module = module.eval()
    damaged = copy.deepcopy(module)
    damage(damaged)
    modules = {"reference": module, "candidate": damaged} if role == "candidate" else {"reference": damaged, "candidate": module}
    calls = {r: Call(name, name, m, None, bound(m, args, kwargs)[1], *tree_map(lambda v: v, (args, kwargs))) for r, m in modules.items()}
    return Inside(dict.fromkeys(modules, name), modules, dict(modules), calls, 1.0, 1e-7, 0, stage)


def lab():
    return types.SimpleNamespace(notes=[], traces={"reference": {}, "candidate": {}}, sides={"reference": None, "candidate": None})
