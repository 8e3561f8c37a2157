"""Weights that were never loaded: a checkpoint's names and a module's differ by what stands before them, and nobody complained."""

from __future__ import annotations

import contextlib

import torch

from whydiff.causes.finding import Explanation
from whydiff.causes.inside.differences import placed
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.weights import constant, unrelated

OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(inside: Inside, _finding, _lab) -> Explanation | None:
    """With the other side's weights, told by the ends of their names, a module whose own look like a beginning puts out the same."""
    if not inside.can_run:
        return None
    for role in ("candidate", "reference"):
        pairs = by_ending(inside.modules[OTHER[role]], inside.modules[role])
        started = [pair for pair in pairs if constant(pair[1], pair[3])]
        fresh = [pair for pair in pairs if constant(pair[1], pair[3]) or unrelated(pair[1], pair[3])]
        # Of two sides that are unrelated, the one whose biases are all zeros is the one that was not loaded.
        if not started or any(constant(pair[3], pair[1]) for pair in pairs) or not any(pair not in started for pair in fresh):
            continue
        if inside.closes(inside.outputs()[OTHER[role]], _with(inside, role, pairs)):
            return _named(inside, role, pairs, fresh)
    return None


def by_ending(source: torch.nn.Module, target: torch.nn.Module) -> list[tuple[str, torch.Tensor, str, torch.Tensor]]:
    """(name, values, name, values) of each parameter of `target` and the one of `source` whose name is its end, or the reverse.

    Empty unless every parameter has exactly one such counterpart, of the same shape.
    """
    theirs, found = dict(source.named_parameters()), []
    for name, own in target.named_parameters():
        alike = [other for other in theirs if f".{name}".endswith(f".{other}") or f".{other}".endswith(f".{name}")]
        if len(alike) != 1 or theirs[alike[0]].shape != own.shape:
            return []
        found.append((alike[0], theirs[alike[0]].detach(), name, own.detach()))
    return found if len(found) == len(theirs) else []


def _with(inside: Inside, role: str, pairs: list):
    module = inside.modules[role]
    with contextlib.ExitStack() as stack:
        for _, values, name, _ in pairs:
            owner, _, key = name.rpartition(".")
            stack.enter_context(placed(module.get_submodule(owner), "_parameters", key, values))
        return inside.run(role)


def _named(inside: Inside, role: str, pairs: list, fresh: list) -> Explanation:
    other, module = OTHER[role], inside.names[role]
    renamed = next(((mine, own) for mine, _, own, _ in fresh if mine != own), None)
    why = f"; what is {renamed[0]} in the {other} is {renamed[1]} there" if renamed else ""
    return Explanation(
        id="missing-keys-nonstrict", stage=inside.stage, departs=role, explained=1.0, module=inside.name,
        statement=f"{len(fresh)} of {len(pairs)} weights of the {role}'s {module} were not loaded: they are zeros, ones, or have nothing to do "
                  f"with the {other}'s{why}",
        relation={"kind": "weights_not_loaded", "side": role, "count": len(fresh), "of": len(pairs), "names": [own for _, _, own, _ in fresh[:8]]},
        experiment=f"put the {other}'s weights into the {role}'s {module}, paired by the ends of their names, and ran it on the same inputs: it "
                   f"puts out what the {other}'s does",
        fix=f"load the checkpoint into the {role}'s {module} under the names that its version of the library uses, and let missing keys "
            "be an error")  # fmt: skip
