"""Give a module the other side's state, entry by entry, and run it again on the same inputs: does the difference go?"""

from __future__ import annotations

import contextlib

from whydiff.causes.inside.differences import Difference, differences
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.naming import Name, of_tensor, of_word

# Modules with more entries that differ than this are of different making; trying all of them would take long.
MOST = 60


def responsible(inside: Inside) -> list[Difference]:
    """The entries that make the difference: one alone if one suffices, otherwise all of a kind that do so together."""
    if not inside.can_run or inside.foreign:
        return []
    found = differences(inside.modules["reference"], inside.modules["candidate"])[:MOST]
    target = inside.outputs()["reference"]
    for difference in found:
        if _closes(inside, [difference], target):
            return [difference]
    kinds = [[d for d in found if d.is_tensor], [d for d in found if not d.is_tensor], found]
    for several in kinds:
        if len(several) > 1 and _closes(inside, several, target):
            return _needed(inside, several, target)
    return []


@contextlib.contextmanager
def repaired(several: list[Difference]):
    """The reference's entries in the candidate for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        for difference in several:
            stack.enter_context(difference.repaired("candidate"))
        yield


def _needed(inside: Inside, several: list[Difference], target) -> list[Difference]:
    """`several` without the entries that make no difference."""
    for difference in list(several):
        rest = [d for d in several if d is not difference]
        if rest and _closes(inside, rest, target):
            several = rest
    return several


def _closes(inside: Inside, several: list[Difference], target) -> bool:
    try:
        with repaired(several):
            return inside.closes(target, inside.run("candidate"))
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return False  # a state that does not fit the code of this side


def name(inside: Inside, several: list[Difference]) -> Name | None:
    """The catalogue name of a set of entries: all must be of one kind."""
    names = [of_tensor(d, inside) if d.is_tensor else of_word(d, inside) for d in several]
    ids = {n.id if n else None for n in names}
    if len(ids) == 1 and None not in ids:
        return names[0]
    known = [n for n in names if n]
    words = {n.id if n else None for n, d in zip(names, several) if not d.is_tensor}
    if len(words) == 1 and None not in words and all(n is None and d.store != "_parameters" for n, d in zip(names, several) if d.is_tensor):
        return known[0]  # tables are made from the numbers beside them
    # A layer's weight and bias are one load: what is told of one explains the other where that is too short to tell.
    main = max(zip(several, names), key=lambda pair: pair[0].values["reference"].numel() if pair[0].is_tensor else 0)
    small = [d for d, n in zip(several, names) if n is None or n.id != (main[1].id if main[1] else "")]
    if main[1] is not None and known and all(d.is_tensor and d.values["reference"].dim() < 2 for d in small):
        return main[1]
    return None
