"""What a run of the benchmark consists of: one `Plan` per trial, everything about it drawn from the seed that was printed."""

from __future__ import annotations

import dataclasses
import random

from whydiff.faults.catalogue import load
from whydiff.faults.fault import FAULTS
from whydiff.faults.known import KNOWN
from whydiff.faults.right import half as half_of
from whydiff.faults.right import right_of

SUITES = ("catalogue", "mutations", "benign", "pairs", "traces")
MUTATIONS, PAIRS, TRACES = 64, 64, 80  # how many; the issue asks for at least 60 of each
ROLES = ("reference", "candidate")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One trial. `id`: a fault, a mutation, a benign variation, or two faults joined by +. `side`: the role that gets it."""

    suite: str
    id: str
    seed: int
    repeat: int = 0
    attempt: int = 0  # a mutation or a pair that shows nothing is drawn again
    host: str = ""
    side: str = "candidate"

    @property
    def key(self) -> str:
        """What a stored result is found by."""
        return f"{self.suite}/{self.id}/{self.seed}/{self.repeat}/{self.host}/{self.side}/{self.attempt}"

    def draw(self, what: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.suite}/{self.id}/{self.repeat}/{self.attempt}/{what}")


def plans(suites, seed: int, *, only=(), half: str | None = None, sample: int | None = None, repeats: int = 1) -> list[Plan]:
    """All trials of these suites, or those whose id (or one of whose ids) is among `only`; of each suite at most `sample`.

    `half` leaves out every catalogue fault of the other half, and pairs with one of them.
    """
    makers = {"catalogue": _catalogue, "mutations": _mutations, "benign": _benign, "pairs": _pairs, "traces": _traces}
    made = []
    for suite in suites:
        ids = makers[suite](seed)
        if only:
            ids = [id_ for id_ in ids if id_ in only or set(id_.split("+")) & set(only)]
        if sample is not None and len(ids) > sample:
            ids = sorted(random.Random(f"{seed}/{suite}/sample").sample(ids, sample))
        made += [placed(Plan(suite, id_, seed, repeat)) for id_ in ids for repeat in range(repeats)]
    return [plan for plan in made if half is None or _of_half(plan, half)]


def _of_half(plan: Plan, half: str) -> bool:
    if plan.suite in ("mutations", "benign"):
        return True
    return all(half_of(id_) == half for id_ in (plan.id.split("+")[1:] if plan.suite == "pairs" else [plan.id]))


def placed(plan: Plan) -> Plan:
    """The plan with host and side drawn."""
    draw = plan.draw("where")
    if plan.suite == "mutations":
        from whydiff.faults.mutations import HOSTS as hosts

        return dataclasses.replace(plan, host=draw.choice(hosts), side=draw.choice(ROLES))
    if plan.suite == "benign":
        from whydiff.faults.benign import BENIGN

        return dataclasses.replace(plan, host=BENIGN[plan.id].host, side=draw.choice(BENIGN[plan.id].sides))
    if plan.suite == "pairs":
        return placed_pair(plan)
    hosts = FAULTS[plan.id].hosts
    return dataclasses.replace(plan, host=draw.choice(hosts), side=draw.choice(right_of(plan.id).sides))


def again(plan: Plan) -> Plan:
    """The next attempt at a mutation or pair."""
    return placed(dataclasses.replace(plan, attempt=plan.attempt + 1, host="", side="candidate"))


def placed_pair(plan: Plan) -> Plan:
    from whydiff.faults.pairs import drawn

    ids, host, side = drawn(plan)
    return dataclasses.replace(plan, id="+".join([plan.id.split("+")[0], *ids]), host=host, side=side)


def _catalogue(seed: int) -> list[str]:
    load()
    return [id_ for id_ in KNOWN if id_ in FAULTS] + sorted(set(FAULTS) - set(KNOWN))


def _traces(seed: int) -> list[str]:
    """Faults that the stage probes of one run can show: nothing that leaks from call to call, nothing inside a network."""
    inside = ("modules", "noise_pred_text")
    ids = [id_ for id_ in _catalogue(seed) if id_ in KNOWN and KNOWN[id_].stage != "state_leakage" and KNOWN[id_].probe not in inside]
    return sorted(random.Random(f"{seed}/traces").sample(ids, min(TRACES, len(ids))))


def _mutations(seed: int) -> list[str]:
    return [f"mutation-{number:02}" for number in range(MUTATIONS)]


def _benign(seed: int) -> list[str]:
    from whydiff.faults.benign import BENIGN

    return list(BENIGN)


def _pairs(seed: int) -> list[str]:
    load()
    return [f"pair-{number:02}" for number in range(PAIRS)]
