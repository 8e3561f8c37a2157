"""One side evaluates an unconditional branch where the other does not. Which condition switches guidance on?"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.evidence.traces.trace import Trace

_OTHER = {"reference": "candidate", "candidate": "reference"}


def guided(trace: Trace) -> set[int]:
    """Steps at which an unconditional prediction is made."""
    return {p.step for p in trace if p.probe == "noise_pred_uncond" and p.step is not None}


def predicted(trace: Trace) -> set[int]:
    return {p.step for p in trace if p.probe == "noise_pred_text" and p.step is not None}


def explain(finding: Finding, lab) -> list[Explanation]:
    with_, all_ = {r: guided(t) for r, t in lab.traces.items()}, {r: predicted(t) for r, t in lab.traces.items()}
    if with_["reference"] == with_["candidate"] or all_["reference"] != all_["candidate"]:
        return []
    role = max(with_, key=lambda r: len(with_[r]))  # the side that guides more
    if not with_[role] > with_[_OTHER[role]]:
        return []
    return embedded(lab, role, with_) or asked_for_zero(lab, role, with_) or condition(lab, role, with_)


def embedded(lab, role: str, with_) -> list[Explanation]:
    """The network knows a guidance input of its own, and the two sides feed it differently: the scale went to the other place."""
    inputs = {r: [t[p] for p in t.at("model_input/guidance")] for r, t in lab.traces.items()}
    if with_[_OTHER[role]] or not any(inputs.values()):
        return []
    values = {r: float(v[0].flatten()[0]) if v else None for r, v in inputs.items()}
    scale = combined_with(lab.traces[role])
    fed = values[_OTHER[role]]  # what the other side, which guides by its network's input alone, feeds it
    if values["reference"] == values["candidate"] and (scale is None or fed is None or abs(scale - fed) > 1e-3 * abs(fed)):
        return []
    return [_explanation(
        lab, "true-cfg-vs-embedded", "unknown", role, with_,
        f"{role} evaluates two branches{'' if scale is None else f', combines them with scale {number(round(scale, 4))}'} and feeds its network "
        f"guidance {_said(values[role])}; the {_OTHER[role]} evaluates one and feeds it "
        f"{_said(values[_OTHER[role]])}", "read the guidance that each network receives: it differs together with the number of branches",
        "pass the distilled guidance to the network's guidance input and true_cfg_scale to the combination, on both sides",
        {"guidance": values, "combined_with": scale}, covers={"noise_pred", "model_input/guidance"})]  # fmt: skip


def combined_with(trace: Trace) -> float | None:
    """The scale s of noise_pred = uncond + s (cond - uncond) at the first step that is guided; None where that is not exact."""
    for step in sorted(guided(trace)):
        cond, uncond, both = trace.get("noise_pred_text", step, "cond"), trace.get("noise_pred_uncond", step, "uncond"), trace.get("noise_pred", step)
        if cond is None or uncond is None or both is None or cond.shape != both.shape:
            return None
        direction = (cond.double() - uncond.double()).flatten()
        if direction.any():
            rest = (both.double() - uncond.double()).flatten()
            scale = float(direction @ rest) / float(direction @ direction)
            return scale if float((rest - scale * direction).norm()) <= 1e-4 * float(rest.norm()) else None
    return None


def asked_for_zero(lab, role: str, with_) -> list[Explanation]:
    """Asked for a scale of exactly 0, one side takes its default; asked for almost 0, it does as the other."""
    patient = lab.patient
    side = lab.sides[patient] if patient else None
    spelled = side.spelling("guidance_scale") if side is not None else None
    if spelled is None or side.call.get(spelled) not in (0, 0.0):
        return []
    again = guided(lab.run(patient, changes={spelled: 1e-6}))
    if again != with_[_OTHER[patient]]:
        return []
    return [_explanation(
        lab, "zero-value-treated-as-missing", patient, role, with_, f"asked for guidance 0, {patient} takes its default",
        f"ran the {patient} with {spelled}=1e-6 in place of 0: it evaluates the same branches as the {_OTHER[patient]}",
        "test `is None` where a default replaces a missing guidance_scale", {}, stage="parameters")]  # fmt: skip


def condition(lab, role: str, with_) -> list[Explanation]:
    """Another scale, or a negative prompt that is given, makes the patient evaluate what the other side evaluates."""
    patient = lab.patient
    if patient is None or lab.sides[patient] is None:
        return []
    side, target = lab.sides[patient], with_[_OTHER[patient]]
    scale = side.spelling("guidance_scale")
    tries = [("negative_prompt", "", "a negative prompt is given")] if side.call.get("negative_prompt") is None else []
    told = side.call.get(scale) if scale else None
    if isinstance(told, (int, float)):
        tries += [(scale, told + d, f"the scale is {'above' if d > 0 else 'below'} {number(told)}") for d in (1e-3, -1e-3, 1.0)]
    for key, value, words in tries:
        if not side.takes(key) or (key == scale and scale is None):
            continue
        if guided(lab.run(patient, changes={key: value})) == target:
            return [_explanation(
                lab, "cfg-enable-threshold", "unknown", role, with_,
                f"{patient} {'guides' if target else 'stops guiding'} only if {words}",
                f"ran the {patient} with {key}={value!r}: it evaluates the same branches as the {_OTHER[patient]}",
                "switch guidance on by one condition on both sides (scale > 1 in diffusers)", {"setting": key, "value": value},
                changes={key: value} if key == "negative_prompt" else {})]  # fmt: skip
    return []


def _explanation(lab, id_, departs, role, with_, words, experiment, fix, more, stage="guidance", changes=None, covers=None) -> Explanation:
    counts = {r: len(steps) for r, steps in with_.items()}
    nameless = lab.patient and not changes and all(p.branch is None for p in lab.traces[_OTHER[role]].at("noise_pred_text"))
    return Explanation(
        id=id_, stage=stage, departs=departs, explained=1.0, experiment=experiment, fix=fix, changes=changes or {},
        statement=f"{words}: {role} makes an unconditional prediction at {counts[role]} steps, the {_OTHER[role]} at {counts[_OTHER[role]]}",
        relation={"kind": "branches", **counts} | more, covers=set() if changes else covers or {"noise_pred"},
        guided_alone=role if nameless else None)  # fmt: skip


def _said(value) -> str:
    return "nothing" if value is None else number(value)
