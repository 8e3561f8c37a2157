"""Do both sides make an output of the same size? A setting is put over from the reference to see whether shapes agree."""

from __future__ import annotations

from whydiff.causes import frames
from whydiff.causes.finding import Explanation
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place

IMAGE = Place("image")
BATCH = ("num_images_per_prompt", "num_videos_per_prompt", "batch_size")


def output_size(trace: Trace) -> dict[str, int]:
    """height, width and num_frames of what was made, from the image, else nothing."""
    event = trace.events.get(IMAGE) or trace.sketches.get(IMAGE)
    if event is None or event.tensor.dim() not in (4, 5):
        return {}
    shape = event.tensor.shape
    size = {"height": shape[-3], "width": shape[-2]}
    return size | {"num_frames": shape[1]} if event.tensor.dim() == 5 else size


def stated(lab, role: str) -> dict[str, int]:
    """height, width and num_frames as the case states them: in the call, or in the settings."""
    side = getattr(lab.case, role)
    given = side.settings | (side.live.call if side.live else {})
    return {k: given[k] for k in ("height", "width", "num_frames") if isinstance(given.get(k), int)}


def batch(trace: Trace | None) -> int | None:
    """How many pictures were made."""
    event = None if trace is None else trace.events.get(IMAGE) or trace.sketches.get(IMAGE)
    return None if event is None or event.tensor.dim() not in (4, 5) else event.tensor.shape[0]


def asked_batch(lab, role: str) -> tuple[str, int] | None:
    """The setting that multiplies the pictures, as the case states it; None where it is silent."""
    side = getattr(lab.case, role)
    given = side.settings | (side.live.call if side.live else {})
    return next(((k, given[k]) for k in BATCH if isinstance(given.get(k), int)), None)


def explain(lab) -> list[Explanation]:
    """`height-width-swapped`, `image-size`, `num-frames` or `batch-size`, each shown by a run with the other size."""
    reference, candidate = (stated(lab, r) | made(lab, r) for r in ("reference", "candidate"))
    found = []
    size = [(s.get("height"), s.get("width")) for s in (reference, candidate)]
    if None not in (*size[0], *size[1]) and size[0] != size[1]:
        swapped = size[0] == size[1][::-1]
        found.append(_try(lab, swapped, reference, candidate))
    frames = (reference.get("num_frames"), candidate.get("num_frames"))
    if None not in frames and frames[0] != frames[1]:
        found.append(_try_frames(lab, *frames))
    found.append(_try_batch(lab))
    return [entry for entry in found if entry is not None]


def made(lab, role: str) -> dict[str, int]:
    trace = lab.traces[role]
    return output_size(trace) if trace is not None else {}


def _try(lab, swapped: bool, reference: dict, candidate: dict) -> Explanation | None:
    words = "{height}x{width} (height x width)"
    statement = f"candidate makes {words.format(**candidate)}, the reference {words.format(**reference)}"
    relation = {"kind": "size", "height": {"reference": reference["height"], "candidate": candidate["height"]},
                "width": {"reference": reference["width"], "candidate": candidate["width"]}}  # fmt: skip
    explanation = Explanation(
        id="height-width-swapped" if swapped else "image-size", statement=statement, relation=relation, explained=1.0,
        experiment="compared the sizes both sides state", fix=f"pass height={reference['height']}, width={reference['width']}",
        departs="unknown", probe="settings")  # fmt: skip
    patient = lab.sides["candidate"]
    if patient is None:
        return explanation
    height, width = patient.spelling("height"), patient.spelling("width")
    if height is None or width is None:
        return None
    given = stated(lab, "candidate")
    asked = given == {k: v for k, v in stated(lab, "reference").items() if k in given}
    changes = {height: reference["height"], width: reference["width"]}
    obeys = bool(given) and all(candidate[k] == v for k, v in given.items())
    if asked and obeys:  # the same size was asked for, and the candidate makes it: the exchange happens inside the reference
        explanation.fix = "exchange height and width back where the reference reads them" if swapped else "make the size that is asked for"
        explanation.probe = None
        explanation.departs = "reference"
    elif asked:  # it happens inside the candidate: undo it from outside
        changes = {height: reference["width"], width: reference["height"]} if swapped else {}
        explanation.fix = "exchange height and width where the candidate reads them"
        explanation.probe = None
        explanation.departs = "candidate"
    if not changes:
        return None
    again = lab.run("candidate", changes=changes)
    target = output_size(lab.traces["reference"]) if lab.traces["reference"] is not None else {}
    if target and output_size(again) != target:
        return None
    explanation.changes = changes
    explanation.experiment = (f"ran the candidate with {height}={changes[height]}, {width}={changes[width]}: "
                              "all shapes agree with the reference's")  # fmt: skip
    return explanation


def _try_frames(lab, reference: int, candidate: int) -> Explanation | None:
    if frames.asked(lab) is not None:  # the same number was asked for: what one side makes of it is its own rule
        return frames.explain_rule(lab)
    explanation = Explanation(
        id="num-frames", statement=f"candidate makes {candidate} frames, the reference {reference}",
        relation={"kind": "setting", "reference": reference, "candidate": candidate}, explained=1.0, departs="unknown",
        experiment="compared the numbers of frames both sides state", fix=f"pass num_frames={reference}", probe="settings")  # fmt: skip
    patient = lab.sides["candidate"]
    if patient is None:
        return explanation
    spelled = patient.spelling("num_frames")
    if spelled is None:
        return None
    again = lab.run("candidate", changes={spelled: reference})
    if output_size(again).get("num_frames") != reference:
        return None
    explanation.changes = {spelled: reference}
    explanation.experiment = f"ran the candidate with {spelled}={reference}: all shapes agree"
    return explanation


def _try_batch(lab) -> Explanation | None:
    asked = [asked_batch(lab, role) for role in ("reference", "candidate")]
    key = next((given[0] for given in asked if given), None)
    reference, candidate = (given[1] if given else 1 for given in asked)
    if key is None or reference == candidate:
        return None
    explanation = Explanation(
        id="batch-size", statement=f"candidate was asked for {candidate} pictures of each prompt, the reference for {reference}",
        relation={"kind": "setting", "reference": reference, "candidate": candidate}, explained=1.0, departs="unknown",
        experiment="compared the numbers of pictures both sides state", fix=f"pass {key}={reference}", probe="settings")  # fmt: skip
    patient, target = lab.sides["candidate"], batch(lab.traces["reference"])
    if patient is None:
        return explanation
    if not patient.takes(key) or batch(lab.run("candidate", changes={key: reference})) != target:
        return None
    explanation.changes = {key: reference}
    explanation.experiment = f"ran the candidate with {key}={reference}: all shapes agree"
    return explanation
