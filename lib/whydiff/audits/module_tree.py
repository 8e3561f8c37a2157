"""The modules of a network as a tree, with the error of each and what it adds to that of the module before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from whydiff.engine.modules import ModuleWalk
from whydiff.evidence.floor import STANDS_OUT


@dataclasses.dataclass
class Block:
    """A module of the candidate and those inside it. Differences are in noise floors, each network on the same inputs.

    `floors`: of its output, or the largest inside it where its own output was not paired; None where nothing was. `added`: by how
    much that is louder than everything that ran before the block. `first`: the first to depart, or the module it lies in.
    """

    name: str  # the whole path, `transformer/blocks.0.attn`
    label: str  # its own part of it
    depth: int = 0
    floors: float | None = None
    added: float = 0.0
    pairs: int = 0
    reference: str = ""  # its counterpart
    first: bool = False
    children: list[Block] = dataclasses.field(default_factory=list)
    limit: float = STANDS_OUT  # floors from which a difference stands out

    @property
    def stands_out(self) -> bool:
        return self.floors is not None and self.floors > self.limit

    def walk(self, deepest: int | None = None) -> Iterator[Block]:
        """The blocks below the root, each before those inside it, in the order in which they run."""
        for child in self.children:
            yield child
            if deepest is None or child.depth < deepest:
                yield from child.walk(deepest)


def pair_figures(walk: ModuleWalk) -> list[dict]:
    """One entry for each pair of modules, in the order in which they run: plain JSON."""
    return [{"reference": pair.reference, "candidate": pair.candidate, "difference": pair.difference, "floor": walk.floors[pair.reference],
             "first": walk.first is not None and pair == walk.first} for pair in walk.alignment.pairs]  # fmt: skip


def tree_of(walk: ModuleWalk | None) -> Block | None:
    return None if walk is None else tree(pair_figures(walk))


def tree(pairs: list[dict]) -> Block | None:
    """The tree of what `pair_figures` lists; None where it is empty."""
    root, loudest, entered = Block("", ""), 0.0, {}
    for pair in pairs:
        floors, path = _floors(pair), _path(root, pair["candidate"].split(" ", 1)[0])
        for block in path:  # what is inside a block runs before its own output
            entered.setdefault(block.name, loudest)
            block.first = block.first or pair["first"]
        block = path[-1]
        block.pairs += 1
        block.floors = max(floors, block.floors or 0.0)
        block.reference = block.reference or pair["reference"].split(" ", 1)[0]
        loudest = max(loudest, floors)
    for block in root.children:
        _fill(block, entered)
    return root if root.children else None


def _floors(pair: dict) -> float:
    if pair["difference"] is None:
        return float("inf")
    return pair["difference"] / pair["floor"] if pair["floor"] else float(pair["difference"] > 0)


def _path(root: Block, name: str) -> list[Block]:
    """The blocks around `name` from the outermost, itself last; those not there yet are made."""
    component, _, dotted = name.partition("/")
    here, path, found = root, "", []
    for part in [component, *(dotted.split(".") if dotted else [])]:
        path = part if not path else f"{path}.{part}" if "/" in path else f"{path}/{part}"
        inner = next((child for child in here.children if child.name == path), None)
        if inner is None:
            inner = Block(path, part, len(found))
            here.children.append(inner)
        found.append(here := inner)
    return found


def _fill(block: Block, entered: dict[str, float]) -> None:
    """What is not known of a block is the most of what is inside it."""
    for child in block.children:
        _fill(child, entered)
    inside = [child for child in block.children if child.floors is not None]
    if block.floors is None and inside:
        block.floors = max(child.floors for child in inside)
    if block.floors is not None:
        block.added = max(0.0, block.floors - entered[block.name])
    block.pairs += sum(child.pairs for child in inside)
