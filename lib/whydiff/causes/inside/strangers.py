"""Which weights of one side are nowhere on the other? Told where no experiment explains a network, as after a load that kept nothing."""

from __future__ import annotations

from whydiff.causes.inside.inside import Inside
from whydiff.measure.pairing import ParameterPairing, pair_parameters


def told(inside: Inside) -> str:
    """"2 of the candidate's 40 weights are nowhere in the reference, ..." for a whole network; "" where all are found."""
    roots = [inside.roots.get(role) for role in ("reference", "candidate")]
    if "/" in inside.name or not all(root is not None and next(root.parameters(), None) is not None for root in roots):
        return ""  # a network that shows no weights (an exported graph) has not lost them
    found = pair_parameters(inside.roots["reference"], inside.roots["candidate"])
    words = [_of(inside, role, _known(found, role)) for role in ("candidate", "reference")]
    return "; ".join(word for word in words if word)


def _of(inside: Inside, role: str, known: set[str]) -> str:
    other = "candidate" if role == "reference" else "reference"
    names = [name for name, _ in inside.roots[role].named_parameters()]
    strange = [name for name in names if name not in known]
    count = "none" if len(strange) == len(names) else f"{len(names) - len(strange)}"
    where = f"has its values in the {other}, under any name" if count in ("none", "1") else f"have their values in the {other}, under any name"
    return f"of the {role}'s {len(names)} weights {count} {where}; the first that has not: {strange[0]}" if strange else ""


def _known(found: ParameterPairing, role: str) -> set[str]:
    """A side's tensors whose values are the other's, in whole or in part, in any order."""
    exact = {getattr(pair, role) for pair in found.pairs if pair.exact}
    return exact | {name for pair in found.interchangeable for name in pair[role == "candidate"]} | set(found.made)
