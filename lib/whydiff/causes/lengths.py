"""Are there as many steps, and as many prompt tokens? The reference's number is put over to see whether shapes agree."""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt.texts import run_until
from whydiff.places import family


def explain(finding: Finding, lab) -> list[Explanation]:
    """`num-inference-steps` where schedules differ in length, `max-sequence-length` where token lists do."""
    kind = family(finding.probe)
    if kind in ("sigmas", "timesteps"):
        return _try(finding, lab, "num-inference-steps", "num_inference_steps", _steps, "takes {} steps")
    if kind in ("input_ids", "attention_mask", "prompt_embeds"):
        return _try(finding, lab, "max-sequence-length", "max_sequence_length", _tokens, "encodes {} prompt tokens")
    return []


def _try(finding: Finding, lab, id_: str, setting: str, count, words: str) -> list[Explanation]:
    reference, candidate = count(finding, lab, "reference"), count(finding, lab, "candidate")
    patient = lab.sides[lab.patient] if lab.patient else None
    if None in (reference, candidate) or reference == candidate:
        return []
    statement = f"candidate {words.format(candidate)}, the reference {words.format(reference)}"
    origin = _origin(lab, "candidate", setting), _origin(lab, "reference", setting)
    if None not in origin:
        statement += f" (candidate: {origin[0]}; reference: {origin[1]})"
    explanation = Explanation(
        id=id_, statement=statement, relation={"kind": "setting", "setting": setting, "reference": reference, "candidate": candidate},
        explained=1.0, departs="unknown", experiment="", fix=f"pass {setting}={reference} to both sides")  # fmt: skip
    spelled = patient.spelling(setting) if patient is not None else None
    if spelled is None:
        return []
    target = reference if lab.patient == "candidate" else candidate
    again = run_until(lab, lab.patient, finding.place, changes={spelled: target})
    expected = lab.traces["reference" if lab.patient == "candidate" else "candidate"]
    after = again.events.get(finding.place)
    if after is None or after.tensor.shape != expected[finding.place].shape:
        return []
    cut = setting == "max_sequence_length" and target < (candidate if lab.patient == "candidate" else reference)
    if cut and not lab.closes(finding, expected[finding.place], after.tensor):
        return []  # anything can be cut to a length: that the lengths agree then says nothing
    explanation.changes = {spelled: target}
    explanation.experiment = f"ran the {lab.patient} with {spelled}={target}: {finding.probe} has the other side's shape"
    return [explanation]


def _steps(finding, lab, role):
    trace = lab.traces[role]
    given = _stated(lab, role, "num_inference_steps")
    tensor = trace.get("timesteps") if trace.get("timesteps") is not None else trace.get("sigmas")
    return given if isinstance(given, int) else trace.steps or (None if tensor is None else tensor.numel())


def _tokens(finding, lab, role):
    event = lab.traces[role].events.get(finding.place)
    return None if event is None or event.tensor.dim() < 2 else event.tensor.shape[1]


def _stated(lab, role, setting):
    side = lab.sides[role]
    if side is None:
        return getattr(lab.case, role).settings.get(setting)
    spelled = side.spelling(setting)
    return side.effective_settings().get(spelled, {}).get("value") if spelled else None


def _origin(lab, role, setting) -> str | None:
    side = lab.sides[role]
    spelled = side.spelling(setting) if side is not None else None
    if spelled is None:
        return None
    return side.effective_settings().get(spelled, {}).get("origin") or f"inside {side.name}"
