"""What pairing two runs found, and the small facts about names and modules that it goes by."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from whydiff.measure.pairing.digest import Tree, roots
from whydiff.measure.pairing.parameters import ParameterPairing


@dataclasses.dataclass(frozen=True)
class ModulePair:
    """Two outputs taken for each other's counterpart: correlation in [-1, 1] and relative L2 difference in the best layout.

    A part is given as ranges of features: a fused projection has one pair for each of the outputs that it holds.
    """

    reference: str
    candidate: str
    similarity: float
    difference: float
    evidence: str = "values"  # parameters, name, values, relations
    confidence: float = 1.0
    part_reference: tuple[tuple[int, int], ...] | None = None
    part_candidate: tuple[tuple[int, int], ...] | None = None


@dataclasses.dataclass(frozen=True)
class ModulePairing:
    """Pairs in the reference's order of execution, and what has no counterpart.

    An alias is an output with exactly the values of a paired one of its side or of a part of it (a dropout, a chunk, a block
    that ends in a layer): what it holds is compared there.
    """

    pairs: list[ModulePair]
    unpaired_reference: list[str]
    unpaired_candidate: list[str]
    aliases_reference: dict[str, str] = dataclasses.field(default_factory=dict)
    aliases_candidate: dict[str, str] = dataclasses.field(default_factory=dict)
    parameters: ParameterPairing | None = None
    incomparable: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # modules paired by parameters, whose outputs are not
    functions: list[ModulePair] = dataclasses.field(default_factory=list)  # outputs that a function makes on the other side

    def compared(self) -> dict:
        """How much was compared and what was not, in the words of the verdict."""
        found = {
            "modules": len(self.pairs) + len(self.functions), "modules_unpaired": [f"reference: {n}" for n in self.unpaired_reference]
            + [f"candidate: {n}" for n in self.unpaired_candidate],
        }  # fmt: skip
        if self.parameters is not None:
            found |= self.parameters.compared()
        return found


def kinds(root: Tree) -> dict[str, tuple[set[str], bool]]:
    """Of each module: the words of its class's name (`LayerNorm`: layer, norm), and whether there are modules inside."""
    found = {}
    for prefix, module in roots(root).items():
        for dotted, inner in module.named_modules():
            name = "/".join(filter(None, (prefix, dotted)))
            words = {w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", type(inner).__name__)} - {"layer", "module"}
            found[name] = words, next(inner.children(), None) is not None
    return found


def runs(lines: np.ndarray | None, height: int) -> tuple[tuple[int, int], ...] | None:
    """Lines as ranges (start, stop); None for all of them, in whatever order."""
    if lines is None or len(lines) == height:
        return None
    lines = np.sort(lines)
    cuts = np.flatnonzero(np.diff(lines) > 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(lines, cuts))


def within(name: str, module: str) -> bool:
    return name.startswith((f"{module}.", f"{module}/"))


def last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
