"""Do two module trees hold the same weights? The signs by which each weight was recognised, as the audit shows them."""

from __future__ import annotations

import collections
import dataclasses

import torch

from whydiff.measure.pairing import ParameterPair, ParameterPairing, pair_parameters


@dataclasses.dataclass(frozen=True)
class Pairing:
    """How the candidate's tensors are found among the reference's, by name or by content."""

    same_name: list[str]  # name and values equal
    changed: list[str]  # counterparts whose values differ
    renamed: list[tuple[str, str]]  # equal values under another name, or in another shape
    reordered: list[tuple[str, str]]  # the same values in another order
    fused: list[tuple[tuple[str, ...], str]]  # rows or columns of several tensors of one side in one tensor of the other
    only_reference: list[str]
    only_candidate: list[str]
    made: list[str]  # without a counterpart too, but made by code and in no checkpoint

    @property
    def complete(self) -> bool:
        return not (self.changed or self.only_reference or self.only_candidate)


def pair_weights(reference: torch.nn.Module, candidate: torch.nn.Module) -> Pairing:
    """Pair two modules' tensors; across a cast, values are read in the coarser dtype of the two."""
    return by_sign(pair_parameters(reference, candidate))


def by_sign(found: ParameterPairing) -> Pairing:
    """The pairs sorted by what they were recognised by. Groups of equal content count as renamed, in any order."""
    exact = [p for p in found.pairs if p.exact and p.kind != "fused"]
    same = [p.reference for p in exact if p.reference == p.candidate and p.kind == "equal"]
    renamed = [(p.reference, p.candidate) for p in exact if p.kind in ("equal", "reshaped") and p.reference not in same]
    renamed += [pair for a, b in found.interchangeable for pair in zip(a, b, strict=True)]
    reordered = [(p.reference, p.candidate) for p in exact if p.kind not in ("equal", "reshaped")]
    rest = [_in_part(name) for name in found.partly]
    return Pairing(
        same,
        [p.candidate for p in found.pairs if not p.exact],
        renamed,
        reordered,
        _fused([p for p in found.pairs if p.kind == "fused"]),
        found.unpaired_reference + [n for n in rest if n in found.paired_reference],
        found.unpaired_candidate + [n for n in rest if n not in found.paired_reference],
        found.made,
    )


def _in_part(name: str) -> str:
    return name.split(" ", 1)[0]


def _fused(pairs: list[ParameterPair]) -> list[tuple[tuple[str, ...], str]]:
    """Parts and the whole they are in. The whole is the side that has more pairs."""
    times = collections.Counter(name for p in pairs for name in {("reference", p.reference), ("candidate", p.candidate)})
    wholes: dict[tuple[str, str], list] = {}
    for p in pairs:
        if times["candidate", p.candidate] >= times["reference", p.reference]:
            wholes.setdefault(("candidate", p.candidate), []).append((int(p.rows_candidate[0]), p.reference))
        else:
            wholes.setdefault(("reference", p.reference), []).append((int(p.rows_reference[0]), p.candidate))
    return [(tuple(name for _, name in sorted(parts)), whole) for (_, whole), parts in wholes.items()]
