"""A tensor that several ranks share out, of which a part is missing while another's part is there twice."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation
from whydiff.evidence.floor import STANDS_OUT
from whydiff.measure.compare import relative_l2
from whydiff.measure.shards import Assembly

OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(found: Assembly, whole: torch.Tensor, floor: float, role: str) -> Explanation | None:
    """`found`: how the ranks of the side `role` were put together against the other side's `whole`.

    A cause only where all shards that are there are the whole's: then what is missing is all of the difference.
    """
    if not found.missing or found.tensor is None:
        return None
    there = [(whole.narrow(found.axis, *span), found.tensor.narrow(found.axis, *span))
             for n, span in enumerate(found.spans) if n not in found.missing]  # fmt: skip
    if not there or any(relative_l2(a, b) > STANDS_OUT * floor for a, b in there):
        return None
    lost, twice = _listed(found.missing), _listed(found.repeated)
    holders = {n: [rank for rank, slot in enumerate(found.slots) if slot == n] for n in found.repeated}
    again = f"; ranks {' and '.join(str(r) for n in found.repeated for r in holders[n])} both hold shard {twice}" if twice else ""
    return Explanation(
        id="shard-missing", stage="caching_parallel", departs=role, explained=1.0,
        statement=f"no rank of the {role} holds shard {lost} of {len(found.spans)} along axis {found.axis}{again}",
        relation={"kind": "shards", "axis": found.axis, "shards": len(found.spans), "missing": found.missing, "repeated": found.repeated},
        experiment=f"laid each rank's part where it fits in the {OTHER[role]}'s tensor: {len(there)} of {len(found.spans)} shards are equal to "
                   f"it to the noise floor, and nothing is left for shard {lost}",
        fix=f"give each rank of the {role} its own shard (by its rank in the group that shares the sequence), and record all ranks")  # fmt: skip


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))
