"""Which output of one implementation corresponds to which of the other? The plain form of `measure.pairing`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from whydiff.measure.pairing.digest import Tree
from whydiff.measure.pairing.found import ModulePair, ModulePairing
from whydiff.measure.pairing.modules import pair_modules
from whydiff.measure.pairing.outputs import Output

__all__ = ["Alignment", "ModulePair", "Output", "align"]


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Pairs in the reference's order of execution, and what has no counterpart. `pairing` has the evidence for each."""

    pairs: list[ModulePair]
    unpaired_reference: list[str]
    unpaired_candidate: list[str]
    pairing: ModulePairing | None = None


def align(reference_events: list[Output], candidate_events: list[Output], reference_root: Tree | None = None,
          candidate_root: Tree | None = None) -> Alignment:  # fmt: skip
    """Pair two runs' outputs on the same input. With the trees of modules, parameters are evidence too, and the strongest."""
    roots = (_that_ran(reference_root, reference_events), _that_ran(candidate_root, candidate_events))
    found = pair_modules(*roots, reference_events, candidate_events)
    return Alignment(found.pairs, found.unpaired_reference, found.unpaired_candidate, found)


def _that_ran(root: Tree | None, events: list[Output]) -> Tree | None:
    """Of components, those that made any of the outputs: the weights of the others need not be read."""
    if not isinstance(root, Mapping):
        return root
    ran = {event.name.partition("/")[0] for event in events}
    return {name: part for name, part in root.items() if name in ran}
