"""From modules that differ by themselves to causes: state first, then what they compute."""

from __future__ import annotations

import dataclasses
import math

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside import (
    hidden,
    nonfinite,
    operations,
    quantised,
    rotations,
    scaled,
    sensitivity,
    shards,
    stale,
    state,
    strangers,
    tables,
    unloaded,
)
from whydiff.causes.inside.between import Between
from whydiff.causes.inside.inside import Inside

MOST = 12  # culprits looked at one by one; a fault in every block shows in the first ones


def explain(culprits: list[Inside], finding: Finding, lab) -> tuple[list[Explanation], list[Inside]]:
    """(causes, culprits that none of them explains). Culprits of one cause and kind make one explanation.

    Containers are asked before what they hold: where a whole module's difference is explained, so are its parts.
    """
    grouped: dict[str, list[tuple[Inside, Explanation]]] = {}
    left: list[Inside] = []
    asked = culprits[:MOST]
    explained: list[str] = []
    for inside in sorted(asked, key=lambda inside: len(_path(inside.name))):
        if any(_holds(name, inside.name) for name in explained):
            continue
        found = _one(inside, finding, lab)
        other = getattr(inside, "instead", None)
        if found is None and other is not None and (found := _one(other, finding, lab)) is not None:
            culprits[culprits.index(inside)] = asked[asked.index(inside)] = inside = other
        several = [found] if found is not None else hidden.beside(inside, lambda again: _one(again, finding, lab))
        if not several:
            inside.found = strangers.told(inside) or inside.found
            left.append(inside)
        else:
            explained.append(inside.name)
            for found in several:
                grouped.setdefault(found.id, []).append((inside, found))
    for inside, found in _around(left, grouped, finding, lab):
        left.remove(inside)
        explained.append(inside.name)
        grouped.setdefault(found.id, []).append((inside, found))
    left = [entry for entry in left if not _hands_over_less(entry, explained, culprits)]
    left = [entry.narrowed() or entry if isinstance(entry, Between) and entry.can_run else entry for entry in asked if entry in left]
    ordered = sorted((sorted(group, key=lambda pair: asked.index(pair[0])) for group in grouped.values()), key=lambda g: asked.index(g[0][0]))
    return [_merged(group, lab) for group in ordered], left


def _around(left: list[Inside], grouped: dict, finding: Finding, lab) -> list[tuple[Inside, Explanation]]:
    """Modules with a cause of their own around modules whose state differs, asked once more while that state is the other side's."""
    found = []
    for inside in left:
        within = [entry for group in grouped.values() for entry, _ in group if entry is not inside and _holds(inside.name, entry.name)]
        several = [difference for entry in within for difference in entry.entries]
        if not several or not inside.can_run:
            continue
        with state.repaired(several):
            again = dataclasses.replace(inside)  # without the outputs that were kept
            explanation = _one(again, finding, lab) if again.gap() != inside.gap() else None
        if explanation is not None:
            found.append((inside, explanation))
    return found


def _hands_over_less(inside: Inside, explained: list[str], culprits: list[Inside]) -> bool:
    """Is all that is wrong with a module's own code that others receive an argument less, or more, and are those explained by that?

    What they compute was shown with the arguments that they were called with.
    """
    beyond = {entry.name for entry in culprits[MOST:]}
    return inside.why == "input" and bool(inside.handed) and all(
        math.isinf(received) and (name in beyond or any(_holds(known, name) for known in explained)) for name, received in inside.handed.items()) \
        and any(_holds(known, name) for known in explained for name in inside.handed)  # fmt: skip


def _path(name: str) -> list[str]:
    return name.replace("/", ".").split(".")


def _holds(container: str, name: str) -> bool:
    return _path(name)[: len(_path(container))] == _path(container)


def _one(inside: Inside, finding: Finding, lab) -> Explanation | None:
    for experiment in EXPERIMENTS:
        try:
            found = experiment(inside, finding, lab)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
            lab.notes.append(f"an experiment in {inside.name} could not be made: {type(error).__name__}: {error}")
            continue
        if found is not None:
            return found
    return None


def _state(inside: Inside, finding: Finding, lab) -> Explanation | None:
    several = state.responsible(inside)
    if not several:
        return None
    inside.entries = several
    words = ", ".join(d.path for d in several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
    name = state.name(inside, several)
    if name is None:
        inside.found = f"with the other side's {words} it computes the same"
        return None
    return Explanation(
        id=name.id, statement=name.statement, relation=name.relation, explained=share(inside), departs=name.departs,
        experiment=f"gave the candidate's {inside.name} the reference's {words} and ran it on the same inputs: "
                   f"{_left(inside)} of the difference is left", fix=name.fix, equivalent=list(name.equivalent), module=inside.name)  # fmt: skip


def share(inside: Inside, left: float = 0.0) -> float:
    """1 - (left / gap)²; what was left is below the floor of the module, or the experiment would not have passed."""
    gap = inside.gap()
    return 1.0 if left == 0 or gap == float("inf") else 1.0 - (left / gap) ** 2


def _left(inside: Inside) -> str:
    return "nothing beyond rounding"


def _merged(group: list[tuple[Inside, Explanation]], lab) -> Explanation:
    inside, first = group[0]
    if len(group) > 1:
        first.statement += f", and likewise in {len(group) - 1} more modules"
        first.relation = first.relation | {"modules": [entry.name for entry, _ in group]}
    return first


EXPERIMENTS = (quantised.explain, nonfinite.explain, _state, unloaded.explain, hidden.explain, tables.explain, rotations.explain,
               stale.explain, shards.explain, scaled.explain, sensitivity.explain, operations.explain)  # fmt: skip
