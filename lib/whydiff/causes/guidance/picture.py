"""The picture that a network is conditioned on: do both branches of guidance receive it, on both sides?"""

from __future__ import annotations

import dataclasses

from whydiff.causes import left_out
from whydiff.causes.finding import Explanation, Finding

_OTHER = {"reference": "candidate", "candidate": "reference"}


def is_picture(finding: Finding) -> bool:
    """Is the probe an argument that carries a picture's embeddings (`encoder_hidden_states_image`, `image_embeds`, ...)?"""
    return finding.probe.startswith("model_input/") and "image" in finding.probe and not finding.probe.endswith("_ids")


def explain(finding: Finding, lab) -> list[Explanation]:
    """`negative-image-dropped`: zeros in the unconditional branch of one side; the conditional one has the picture on both."""
    if not is_picture(finding) or not finding.pairs or any(p.branch != "uncond" for p in finding.places):
        return []
    for side in ("candidate", "reference"):
        mine, theirs = getattr(finding, side), getattr(finding, _OTHER[side])
        places = [p for p in finding.places if p in finding.candidate]
        if not all(not mine[p].any() and theirs[p].any() for p in places) or not _conditional_agrees(finding, lab):
            continue
        return [_told(finding, side, "zeros", f"every value that the {side}'s unconditional branch receives there is 0, and the conditional "
                      f"branch receives the same picture on both sides; with the {_OTHER[side]}'s values there the sides agree")]  # fmt: skip
    return []


def explain_absent(finding: Finding, lab) -> list[Explanation]:
    """The same, where the unconditional call of one side leaves the picture out."""
    if not is_picture(finding):
        return []
    lacking = [role for role in ("reference", "candidate") if any(p.probe == finding.probe for p in lab.traces[role].absent)]
    if len(lacking) != 1:
        return []
    role, probe = lacking[0], finding.probe
    branches = {p.branch for p in lab.traces[role].absent if p.probe == probe}
    passed = [p for p in lab.traces[role] if p.probe == probe and p.branch == "cond"]
    other = [p for p in lab.traces[_OTHER[role]] if p.probe == probe and p.branch == "uncond"]
    if branches != {"uncond"} or not passed or not other:
        return []
    if lab.patient is None:
        return [_told(finding, role, "absent", f"the {role} passes {probe.partition('/')[2]} to its conditional calls alone, the "
                      f"{_OTHER[role]} to both")]  # fmt: skip
    return [_told(finding, role, "absent", made.experiment, supplies=made.supplies, covers=made.covers, explained=made.explained)
            for made in left_out.explain(finding, lab)]  # fmt: skip


def _conditional_agrees(finding: Finding, lab) -> bool:
    """Do both sides pass the same picture, and one at all, to the conditional branch?"""
    for place in finding.places:
        other = dataclasses.replace(place, branch="cond")
        pair = [lab.own_value(role, other) for role in ("reference", "candidate")]
        if any(value is None or not value.any() for value in pair) or pair[0].shape != pair[1].shape or not lab.closes(finding, *pair):
            return False
    return True


def _told(finding: Finding, side: str, how: str, experiment: str, **more) -> Explanation:
    argument = finding.probe.partition("/")[2]
    words = "zeros" if how == "zeros" else "nothing"
    return Explanation(
        id="negative-image-dropped", stage="guidance", departs="unknown", equivalent=["negative-zeros-vs-empty"] if how == "zeros" else [],
        statement=f"the {side}'s unconditional branch receives {words} as {argument}, where the {_OTHER[side]}'s receives the picture",
        relation={"kind": "picture_dropped", "side": side, "argument": argument, "how": how}, experiment=experiment,
        fix=f"pass the picture's embeddings to the unconditional branch as well in the {side}, or to neither side's",
        **{"explained": 1.0} | more)  # fmt: skip
