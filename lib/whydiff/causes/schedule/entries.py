"""Lists of noise levels of which one holds an entry more than the other."""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.formulas.schedule_lists import without_one

_OTHER = {"reference": "candidate", "candidate": "reference"}


def left_out(finding: Finding, lab) -> list[Explanation]:
    """Lists of different length that align after one entry is removed: the last sigma but one, or the first or last step."""
    lists = {role: lab.own_value(role, finding.place) for role in ("reference", "candidate")}
    if any(t is None or t.dim() != 1 for t in lists.values()):
        return []
    for longer in ("reference", "candidate"):
        shorter = _OTHER[longer]
        index = without_one(lists[longer].double().numpy(), lists[shorter].double().numpy())
        if index is None:
            continue
        count, ends = lists[longer].numel(), float(lists[longer][-1]) == 0.0
        last = count - 2 if ends and finding.probe == "sigmas" else count - 1
        inner = finding.probe == "sigmas" and ends and index == count - 2
        if not inner and index not in (0, last, count - 1):
            return []
        where = "the last but one" if inner else "the first" if index == 0 else "the last"
        id_ = "penultimate-sigma" if inner else "loop-count-off-by-one"
        return [Explanation(
            id=id_, equivalent=["loop-count-off-by-one" if inner else "penultimate-sigma"] if index else [], departs="unknown", explained=1.0,
            statement=f"{shorter}'s {finding.probe} are the {longer}'s without {where} entry ({lists[longer][index].item():.6g})",
            relation={"kind": "one_left_out", "side": shorter, "index": index, "entries": count},
            experiment=f"removed entry {index} of {count} from the {longer}'s {finding.probe}: equals the {shorter}'s",
            fix="give both sides the same list: keep, or drop, that entry on both")]  # fmt: skip
    return []
