"""What is not there: arguments that one side's network does without, and evaluations of the network that one side skips.

Neither shows as a difference between two tensors, so neither is seen by comparing places that both sides have.
"""

from __future__ import annotations

from whydiff.causes.finding import ABSENT, CALLS, Finding
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, family, walk_key

PREDICTIONS = ("noise_pred_text", "noise_pred_uncond")


def left_out(reference: Trace, candidate: Trace) -> list[Finding]:
    """Arguments that both networks know and only one receives, one finding for each, in walking order."""
    found = []
    for who, one, other in (("candidate", reference, candidate), ("reference", candidate, reference)):
        probes: dict[str, list[Place]] = {}
        for place in one.places:
            if place in other.absent and family(place.probe) == "model_input":
                probes.setdefault(place.probe, []).append(place)
        for probe, places in probes.items():
            name = probe.partition("/")[2]
            found.append(Finding(probe, sorted(places, key=walk_key), {}, {}, None, 0.0, kind=ABSENT,
                                 why=f"the {who}'s network receives no {name}, the other side's does"))  # fmt: skip
    return sorted(found, key=lambda f: walk_key(f.place))


def call_counts(reference: Trace, candidate: Trace) -> Finding | None:
    """A finding at `timesteps` where the sides evaluate their networks at other steps, or another number of times."""
    mine, theirs = evaluations(reference), evaluations(candidate)
    if not mine or not theirs:
        mine, theirs = dict.fromkeys(_steps(reference), 1), dict.fromkeys(_steps(candidate), 1)
    if not mine or not theirs or mine == theirs:
        return None
    total = sum(mine.values()), sum(theirs.values())
    where = next((s for s in range(max(*mine, *theirs) + 1) if mine.get(s, 0) != theirs.get(s, 0)), None)
    place = Place("timesteps")
    tensors = [{place: t} if (t := trace.get("timesteps")) is not None else {} for trace in (reference, candidate)]
    return Finding("timesteps", [place], *tensors, None, 0.0, kind=CALLS,
                   why=f"the candidate evaluates its network {total[1]} times, the reference {total[0]} times, first at step {where}: "
                       f"{theirs.get(where, 0)} against {mine.get(where, 0)}")  # fmt: skip


def evaluations(trace: Trace) -> dict[int, int]:
    """{step: how often the network was evaluated}, each branch counted once; empty where only taps tell of the network."""
    counts: dict[int, int] = {}
    for place, event in (trace.events | trace.sketches).items():
        if place.probe in PREDICTIONS and event.component is not None and place.step is not None:
            counts[place.step] = counts.get(place.step, 0) + 1
    return counts


def _steps(trace: Trace) -> list[int]:
    return sorted({p.step for p in trace.places if p.probe in ("latents", "noise_pred") and p.step is not None})
