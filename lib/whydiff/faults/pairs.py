"""Two catalogue faults of different stages in one side: a doctor who stops at the first finding misses the second."""

from __future__ import annotations

import random

from whydiff.faults.fault import FAULTS
from whydiff.faults.known import KNOWN
from whydiff.faults.plan import Plan
from whydiff.faults.right import right_of

_ALONE = ("state_leakage",)  # shows only after another call, so that a second fault of one call always hides it


def drawn(plan: Plan) -> tuple[list[str], str, str]:
    """(the two ids, host, side) of this attempt: different stages, a host that carries both, calls that do not contradict."""
    draw = random.Random(f"{plan.seed}/{plan.id.split('+')[0]}/{plan.attempt}")
    ids = [id_ for id_ in FAULTS if id_ in KNOWN and KNOWN[id_].stage not in _ALONE]
    for _ in range(10_000):
        one, two = draw.sample(ids, 2)
        hosts = sorted(set(FAULTS[one].hosts) & set(FAULTS[two].hosts))
        sides = sorted(set(right_of(one).sides) & set(right_of(two).sides))
        if hosts and sides and KNOWN[one].stage != KNOWN[two].stage and _agree(FAULTS[one].call, FAULTS[two].call):
            return [one, two], draw.choice(hosts), draw.choice(sides)
    raise LookupError("no two faults of different stages have a host in common")


def _agree(a: dict, b: dict) -> bool:
    return all(b[key] == value for key, value in a.items() if key in b)
