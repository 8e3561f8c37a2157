"""How much of two sides was held against each other, and how much was not: what is not compared is never called equal."""

from __future__ import annotations

import torch

from whydiff.engine.lab import Lab
from whydiff.measure.pairing import pair_parameters

MOST = 500_000_000  # numbers on either side up to which weights are read to be paired; some seconds


def weights_compared(lab: Lab) -> dict:
    """`parameters`: how many tensors of the candidate's modules have a counterpart in the reference, told by what they hold;
    `parameters_unpaired`: those of either side that have none; `parameters_differ`: those whose values are not the same.

    `parameters_not_read` counts them where there are too many numbers to read. Empty without modules on both live sides.
    """
    parts = {role: {} if lab.apart else _modules(side) for role, side in lab.sides.items()}
    if not all(parts.values()):
        return {}
    counts = {role: [p.numel() for module in modules.values() for p in module.parameters()] for role, modules in parts.items()}
    if max(map(sum, counts.values())) > MOST:
        return {"parameters": 0, "parameters_unpaired": [], "parameters_not_read": max(map(len, counts.values()))}
    try:
        found = pair_parameters(parts["reference"], parts["candidate"])
    except (RuntimeError, TypeError, NotImplementedError) as error:  # tensors of a kind that cannot be read
        lab.notes.append(f"weights were not compared: {error}")
        return {"parameters": 0, "parameters_unpaired": [], "parameters_not_read": max(map(len, counts.values()))}
    return found.compared() | {"parameters_differ": [p.candidate for p in found.pairs if not p.exact]}


def outputs_compared(lab: Lab) -> dict:
    """`modules` and `modules_unpaired` of all stages whose modules were paired, which only differences make necessary."""
    stages = lab.modules_compared.values()
    return {key: sum((counts[key] for counts in stages), start) for key, start in (("modules", 0), ("modules_unpaired", []))
            if stages}  # fmt: skip


def _modules(side) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in side.components.items() if isinstance(part, torch.nn.Module)} if side is not None else {}


def not_compared(compared: dict) -> str:
    """What of a verdict's `compared` was not: "3 tensors, 12 parameters"; empty if there is nothing."""
    several = (
        (len(compared.get("unpaired_reference", ())) + len(compared.get("unpaired_candidate", ())), "tensor", "tensors"),
        (len(compared.get("parameters_unpaired", ())) + compared.get("parameters_not_read", 0), "parameter", "parameters"),
        (len(compared.get("modules_unpaired", ())), "output of a module", "outputs of modules"),
    )
    return ", ".join(f"{count} {many if count > 1 else one}" for count, one, many in several if count)
