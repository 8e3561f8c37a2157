"""Does an item of a batch depend on its neighbours? The batch again, with the first item as it was and others beside it.

A batch of two against two of one would change the noise, too: one generator draws both items. With the batch kept and
only the neighbours' prompts changed, everything of the first item must stay as it was.
"""

from __future__ import annotations

from whydiff.engine.lab import Lab
from whydiff.engine.requests import PROMPT
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, walk_key


def items(call: dict) -> int:
    """How many prompts a call asks for at once."""
    prompt = call.get("prompt")
    return len(prompt) if isinstance(prompt, (list, tuple)) else 1


def asked(call: dict) -> bool:
    """Only where a side is asked for a batch of several prompts is the experiment made: one more run of that side."""
    return items(call) > 1


def other_neighbours(call: dict) -> dict:
    """The change that leaves the first item as it is."""
    return {key: [value[0], *[PROMPT] * (len(value) - 1)] for key, value in call.items()
            if (key == "prompt" or key.startswith("prompt_")) and isinstance(value, (list, tuple)) and len(value) == items(call)}  # fmt: skip


def dependent(lab: Lab) -> dict[str, Place]:
    """{role: the first place at which its first item follows its neighbours}; a line in the notes for each."""
    found = {}
    for role, side in lab.sides.items():
        if side is None or not asked(side.call):
            continue
        lab.said(f"running {role} with other neighbours in its batch")
        again, n = lab.run(role, changes=other_neighbours(side.call)), items(side.call)
        first = lab.repeats.get(role, lab.traces[role])
        places = sorted((p for p in again if p in first and _follows(lab, p, first, again, n)), key=walk_key)
        if places:
            found[role] = places[0]
            lab.notes.append(f"{role}: the first item of its batch changes at {places[0]} when only the prompts beside it change")
    return found


def _follows(lab: Lab, place: Place, first: Trace, again: Trace, n: int) -> bool:
    one, other = first[place], again[place]
    if one.shape != other.shape or one.dim() < 2 or one.shape[0] % n or not one.is_floating_point():
        return False
    rows = one.shape[0] // n
    return lab.differs_between_runs(place, one[:rows], other[:rows])
