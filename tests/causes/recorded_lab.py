"""Findings between two recordings made by hand: nothing is live, so an experiment has only the tensors."""

import torch

from whydiff.causes.finding import Finding
from whydiff.engine.lab import Lab
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place


def trace(tensors: dict, settings=None, components=None, producer=None) -> Trace:
    """A trace of {probe or Place: tensor}; `components` names what a place's tensor came from."""
    made = Trace(settings=settings or {}, producer=producer or {})
    for key, tensor in tensors.items():
        place = key if isinstance(key, Place) else Place(key)
        made.add(Event(place, tensor, component=(components or {}).get(place)))
    return made


def lab_of(reference: Trace, candidate: Trace) -> Lab:
    lab = Lab(make_case({"reference": {"settings": {"shown": 1} | reference.settings},
                         "candidate": {"settings": {"shown": 1} | candidate.settings}}))  # fmt: skip
    lab.traces = {"reference": reference, "candidate": candidate}
    return lab


def finding(lab: Lab, probe: str, floor: float = 1e-7) -> Finding:
    """What stands out at a probe, as the walk over recordings hands it over."""
    mine, theirs = lab.traces["reference"], lab.traces["candidate"]
    places = [p for p in mine.at(probe) if p in theirs and not torch.equal(mine[p], theirs[p])]
    reference = {p: mine[p] for p in places}
    candidate = {p: theirs[p] for p in places if theirs[p].shape == mine[p].shape}
    first = relative_l2(mine[places[0]], theirs[places[0]]) if places[0] in candidate else None
    return Finding(probe, places, reference, candidate, first, floor)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
