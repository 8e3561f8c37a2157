"""One side's network does without an argument that the other's receives: does supplying it close the gap?"""

from __future__ import annotations

import contextlib

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.errors import Trouble
from whydiff.places import Place

PREDICTIONS = ("noise_pred_text", "noise_pred_uncond", "noise_pred")
MASKS = ("attention_mask", "encoder_attention_mask", "encoder_hidden_states_mask", "joint_attention_mask")


def explain(finding: Finding, lab) -> list[Explanation]:
    """Give the patient's network the argument (or leave it out) as the other side does; its predictions must then agree."""
    if lab.patient is None:
        return []
    before, other = lab.last_forced, lab.traces["reference" if lab.patient == "candidate" else "candidate"]
    lacking = "candidate" if finding.place in lab.traces["reference"] else "reference"
    apart = [p for p in before if p.probe in PREDICTIONS and p in other and _stand_out(lab, other[p], before[p], p)]
    name, runs = finding.probe.partition("/")[2], []
    with contextlib.suppress(Trouble):  # a network may not work without it
        runs.append((lab.patient, lab.supplied({finding.probe}), other))
    if lacking != lab.patient and lab.sides[lacking] is not None:
        with contextlib.suppress(Trouble):
            runs.append((lacking, lab.given(lacking, finding.probe), before))
    for role, after, target in runs:
        if not apart or any(p not in after or _stand_out(lab, target[p], after[p], p) for p in apart):
            continue
        patient = role == lab.patient
        return [Explanation(
            id=_id(name), stage="guidance" if "guidance" in name else None, departs=lacking,
            statement=f"the {lacking}'s network is called without {name}; the other side passes it",
            relation={"kind": "argument", "argument": name, lacking: None},
            explained=min(explained_share(target[p], (before if patient else other)[p], after[p]) for p in apart),
            experiment=f"ran the {role} on the same inputs {'with' if role == lacking else 'without'} {name}: "
                       f"its predictions at {len(apart)} places agree with the other side's",
            fix=f"pass {name} to the {lacking}'s network", supplies={finding.probe} if patient else set(),
            covers=set() if patient else {p.probe for p in apart})]  # fmt: skip
    return []


def _id(name: str) -> str:
    if "guidance" in name:
        return "guidance-tensor-none"
    return "attention-mask-dropped" if name in MASKS else "conditioning-arg-silently-ignored"


def _stand_out(lab, target, tensor, place: Place) -> bool:
    return target.shape != tensor.shape or lab.stands_out(place, target, tensor)
