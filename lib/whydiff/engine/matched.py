"""Two recordings brought to the same places: what several ranks hold is put together, and tensors under other names are paired.

The reference's names and shapes stand; what the candidate calls a tensor is kept in `lab.renamed`, and in which layout or as which
part it was found in `lab.notes` and the verdict's layouts.
"""

from __future__ import annotations

import dataclasses

from whydiff.engine.lab import Lab
from whydiff.engine.rows import Row
from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.layouts import find_copies, find_layout
from whydiff.measure.pairing.outputs import arranged
from whydiff.measure.sequence import CERTAIN, Counterpart, align_sequences, footprint
from whydiff.measure.shards import assemble
from whydiff.places import STAGE_OF_PROBE, Place, family

OTHER = {"reference": "candidate", "candidate": "reference"}


def match(lab: Lab) -> None:
    """Bring both traces of a lab to the same places, as far as that can be done. Does nothing where they have them already."""
    for role in OTHER:
        if lab.traces[role] is not None and any(place.rank is not None for place in lab.traces[role]):
            put_together(lab, role)
    if None not in lab.traces.values() and None in lab.sides.values():
        pair_names(lab)


# --- layouts ---------------------------------------------------------------------------------------------------------


def find_layouts(lab: Lab, candidate: Trace) -> None:
    """Where element counts agree and shapes do not, look for the layout that makes the values agree; where equally much noise
    was drawn, for copies that one side keeps of what the other has once."""
    reference = lab.traces["reference"]
    drawn = [trace.get("initial_noise") for trace in (reference, candidate)]
    alike = None not in drawn and drawn[0].numel() == drawn[1].numel()
    for place in candidate:
        if place.probe in lab.layouts or place not in reference or place.probe == "image":
            continue
        mine, theirs = reference[place], candidate[place]
        if mine.shape != theirs.shape:
            near = abs(mine.numel() - theirs.numel()) <= 1
            layout = find_layout(mine, theirs) if near else find_copies(mine, theirs) if alike else None
            lab.layouts |= {} if layout is None else {place.probe: layout}


# --- ranks -----------------------------------------------------------------------------------------------------------


def put_together(lab: Lab, role: str) -> None:
    """Replace what each rank of a side recorded by one tensor for each place, held against the other side's whole.

    Where the other side has no such place, the ranks' tensors stay apart and are listed as unpaired.
    """
    trace, other = lab.traces[role], lab.traces[OTHER[role]]
    grouped: dict[Place, dict[int, Event]] = {}
    for place, event in trace.events.items():
        if place.rank is not None:
            grouped.setdefault(dataclasses.replace(place, rank=None), {})[place.rank] = event
    how: dict[str, list[str]] = {}
    for place, parts in grouped.items():
        if other is None or place not in other:
            continue
        ranks = sorted(parts)
        found = assemble([parts[rank].tensor for rank in ranks], other[place])
        if found.tensor is None:
            continue
        for rank in ranks:
            del trace.events[dataclasses.replace(place, rank=rank)]
        trace.add(Event(place, found.tensor, parts[ranks[0]].device, parts[ranks[0]].component))
        if found.missing:
            lab.lost_shards[place] = (role, found)
        how.setdefault(found.words, []).append(str(place))
    for words, places in how.items():
        shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        lab.notes.append(f"{role}: {shown}: {words}")


# --- names -----------------------------------------------------------------------------------------------------------


def pair_names(lab: Lab) -> None:
    """Give the candidate's tensors that the reference knows under other names the reference's places.

    Names are paired in the first step that both recorded; every other step follows. A case's `names` come first.
    """
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    mine, theirs = _alone(reference, candidate), _alone(candidate, reference)
    if not mine or not theirs:
        return
    given = _given(lab, {p.module or p.probe for p in mine}, {p.module or p.probe for p in theirs})
    step = next((s for s in _steps(mine) if s in set(_steps(theirs))), None)
    here = [[p for p in side if p.step == step] for side in (mine, theirs)]
    found = [Counterpart(_name(a), _name(b), 1.0) for a in here[0] for b in here[1] if given.get(a.module or a.probe) == (b.module or b.probe)]
    taken = {pair.reference for pair in found}, {pair.candidate for pair in found}
    rest = [[footprint(_name(p), trace[p]) for p in places if _name(p) not in names]
            for places, trace, names in zip(here, (reference, candidate), taken, strict=True)]  # fmt: skip
    pairs = [*found, *align_sequences(*rest).pairs]
    moved: dict[Place, list[Event]] = {}
    for own in {p.step: None for p in theirs}:
        places = {_name(p): p for p in mine if p.step == own}, {_name(p): p for p in theirs if p.step == own}
        for pair in pairs:
            if pair.reference in places[0] and pair.candidate in places[1]:
                _rename(lab, places[0][pair.reference], places[1][pair.candidate], pair, moved)
    candidate.events = {event.place: event for own, held in candidate.events.items() for event in moved.get(own, [held])}
    unsure = sum(pair.likeness < CERTAIN for pair in pairs)
    if pairs:
        by_order = f"; {unsure} of them by their size and place in the order alone" if unsure else ""
        lab.notes.append(f"{len(pairs)} tensors with other names on either side were paired{by_order}")


def _alone(trace: Trace, other: Trace) -> list[Place]:
    """Modules and taps of names that no contract has, in recorded order, which only one side has."""
    return [p for p in trace if p not in other and (p.probe == "modules" or family(p.probe) not in STAGE_OF_PROBE)]


def _name(place: Place) -> str:
    further = [place.branch or "", str(place.occurrence) if place.occurrence else ""]
    return " ".join(filter(None, [place.module or place.probe, *further]))


def _steps(places: list[Place]) -> list[int | None]:
    return sorted({p.step for p in places}, key=lambda step: -1 if step is None else step)


def _given(lab: Lab, mine: set[str], theirs: set[str]) -> dict[str, str]:
    """{the reference's name: the candidate's} as the case says. Raises Trouble for a name that was not recorded."""
    given = dict(getattr(lab.case, "names", None) or {})
    for name, other in given.items():
        for which, known, role in ((name, mine, "reference"), (other, theirs, "candidate")):
            if which not in known:
                raise Trouble(f"names: the {role} recorded nothing under {which!r} that has no namesake.{did_you_mean(which, known)}")
    return given


def _rename(lab: Lab, place: Place, own: Place, pair: Counterpart, moved: dict[Place, list[Event]]) -> None:
    """Note under `own` the candidate's tensor (or its part) as an event at the reference's place, in the reference's layout."""
    reference, event = lab.traces["reference"], lab.traces["candidate"].events[own]
    mine, theirs = reference[place], event.tensor
    if pair.part is not None:
        holder, axis, start, stop = pair.part
        if holder == "reference":  # several of the candidate lie side by side here: each is compared with its part
            place = dataclasses.replace(place, module=f"{place.module or place.probe}[{start}:{stop}]", probe="modules")
            mine = mine.narrow(axis, start, stop - start)
            reference.add(Event(place, mine))
        else:
            theirs = theirs.narrow(axis, start, stop - start)
    if mine.numel() != theirs.numel():
        return
    values = arranged(theirs, mine) if mine.is_floating_point() and theirs.is_floating_point() else theirs.reshape(mine.shape)
    moved.setdefault(own, []).append(Event(place, values, event.device, event.component))
    lab.renamed[place] = own.module or own.probe
    if pair.likeness < CERTAIN:
        lab.by_order[place] = own


def settled(lab: Lab, rows: list[Row]) -> list[Row]:
    """The rows, without those of pairs by size and order alone where nothing else departs: they were no counterparts, and go back
    to what is not compared."""
    wrong = [row.place for row in rows if row.stands_out and row.place in lab.by_order]
    if not wrong or any(row.stands_out and row.place not in lab.by_order for row in rows):
        return rows
    candidate = lab.traces["candidate"]
    for place in wrong:
        candidate.add(dataclasses.replace(candidate.events.pop(place), place=lab.by_order[place]))
        del lab.renamed[place]
    lab.notes.append(f"{len(wrong)} pairs by size and order alone were undone: they differ, and nothing else does")
    return [row for row in rows if row.place not in wrong]
