"""A network that runs another one which it keeps to itself (an exported graph, a wrapper): is that one in training mode?"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
from collections.abc import Callable

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.inside import Inside

OTHER = {"reference": "candidate", "candidate": "reference"}
DEPTH = 6  # wrappers around wrappers that are followed


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """Put the modules that only code knows of into evaluation mode and run again."""
    for role, training in _training(inside):
        with _evaluating(training):
            after = inside.run(role)
        if inside.closes(inside.outputs()[OTHER[role]], after):
            return _named(inside, role, "")
    return None


def beside(inside: Inside, ask: Callable[[Inside], Explanation | None]) -> list[Explanation]:
    """Training mode and another cause in one network: `ask` is asked about it once more while it is in evaluation mode.

    To be asked where neither explains the difference alone: then both are needed for what they explain together.
    """
    for role, training in _training(inside):
        with _evaluating(training):
            again = dataclasses.replace(inside)  # without the outputs that were kept
            other = ask(again) if again.gap() != inside.gap() else None
        if other is not None:
            return [_named(inside, role, f", once what is told of {other.module} is repaired, too"), other]
    return []


def _training(inside: Inside) -> list[tuple[str, list[torch.nn.Module]]]:
    """The sides that run modules in training mode which they keep to themselves, and these."""
    found = {role: [m for m in kept(inside.modules[role]) if m.training] for role in ("candidate", "reference")} if inside.can_run else {}
    return [(role, modules) for role, modules in found.items() if modules]


def _named(inside: Inside, role: str, besides: str) -> Explanation:
    return Explanation(
        id="eval-mode-missing", statement=f"what {inside.names[role]} of the {role} runs is in training mode", departs=role,
        relation={"kind": "state", "entry": "training", role: True, OTHER[role]: False}, explained=1.0, module=inside.name,
        experiment=f"put the modules behind the {role}'s {inside.names[role]} into evaluation mode: it puts out what the {OTHER[role]} does"
                   + besides,
        fix=f"call eval() on the {role}'s network before it is exported or wrapped", equivalent=["export-without-eval"])  # fmt: skip


def kept(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Modules reachable from a module's own forward, through closures, partials, methods and attributes, not registered in it."""
    registered = set(map(id, module.modules()))
    found: list[torch.nn.Module] = []
    todo = [(vars(module).get("forward"), 0), *((v, 0) for k, v in vars(module).items() if not k.startswith("_") and k != "forward")]
    seen = set()
    while todo:
        value, depth = todo.pop()
        if id(value) in seen or depth > DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            found += [m for m in value.modules() if id(m) not in registered]
            continue
        todo += [(inner, depth + 1) for inner in _behind(value)]
    return found


def _behind(value):
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        cells = []
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):
                cells.append(cell.cell_contents)
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, (list, tuple)):
        return list(value)
    return list(value.values()) if isinstance(value, dict) else []


@contextlib.contextmanager
def _evaluating(modules):
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
