"""How many frames: of latents for the frames asked for, and of pictures for the latents decoded."""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.measure.compare import relative_l2

FACTORS = (4, 8, 6, 2, 16)  # temporal compression of video VAEs, common ones first
RULES = {"(F - 1) // {k} + 1": lambda f, k: (f - 1) // k + 1, "F // {k} + 1": lambda f, k: f // k + 1, "F // {k}": lambda f, k: f // k,
         "ceil(F / {k})": lambda f, k: -(-f // k), "ceil(F / {k}) + 1": lambda f, k: -(-f // k) + 1}  # fmt: skip


def asked(lab) -> int | None:
    """The number of frames that both sides were asked for, or use by default; None where they differ or do not say."""
    said = []
    for role in ("reference", "candidate"):
        side, trace = getattr(lab.case, role), lab.traces[role]
        given = (trace.settings if trace is not None else {}) | side.settings | (side.live.call if side.live else {})
        said.append(next((given[k] for k in ("num_frames", "frames", "video_length") if isinstance(given.get(k), int)), None))
    return said[0] if said[0] is not None and said[0] == said[1] else None


def latent_frames(lab) -> tuple[int, int] | None:
    """Frames of both sides' latents, where they differ in nothing else; (B, C, T, H, W), or the ratio of packed tokens."""
    for name in ("initial_latents", "initial_noise"):
        a, b = (None if lab.traces[role] is None else lab.traces[role].get(name) for role in ("reference", "candidate"))
        if a is None or b is None or a.ndim != b.ndim or a.ndim != 5:
            continue
        apart = [i for i in range(5) if a.shape[i] != b.shape[i]]
        if len(apart) == 1 and apart[0] in (1, 2) and a.shape[1:3] != b.shape[1:3]:
            return a.shape[apart[0]], b.shape[apart[0]]
    return None


def explain_rule(lab) -> Explanation | None:
    """`frame-count-rule`: the same number of frames asked for, other numbers of latent frames, each by a rule."""
    wanted, counts = asked(lab), latent_frames(lab)
    if wanted is None or counts is None:
        return None
    for k in FACTORS:
        names = [[rule.format(k=k) for rule, count in RULES.items() if count(wanted, k) == made] for made in counts]
        if all(names):
            break
    else:
        return None
    whole = wanted // k * k + 1  # a number for which all rules agree but those that count a frame less or more
    explanation = Explanation(
        id="frame-count-rule", stage="latent_handling", probe="initial_noise", explained=1.0, departs="unknown",
        statement=f"for {wanted} frames candidate makes {counts[1]} latent frames ({names[1][0]}), the reference {counts[0]} ({names[0][0]})",
        relation={"kind": "frame_rule", "frames": wanted, "reference": counts[0], "candidate": counts[1], "factor": k},
        experiment="counted the latent frames of both sides: each number follows from the frames asked for by its rule",
        fix=f"count latent frames as {names[0][0]} on both sides, or ask for {k} n + 1 frames")  # fmt: skip
    patient = lab.sides["candidate"]
    spelled = patient.spelling("num_frames") if patient is not None else None
    for frames in dict.fromkeys((whole, whole + k, whole - k)) if spelled else ():
        again = lab.run("candidate", changes={spelled: frames})
        now = next((again.get(name) for name in ("initial_latents", "initial_noise") if again.get(name) is not None), None)
        target = lab.traces["reference"].get("initial_latents")
        target = lab.traces["reference"].get("initial_noise") if target is None else target
        if now is not None and now.shape == target.shape:
            explanation.changes = {spelled: frames}
            explanation.experiment += f"; ran the candidate with {spelled}={frames}: its latents have the reference's shape"
            return explanation
    return None if spelled else explanation


def explain_latents(finding: Finding, lab) -> list[Explanation]:
    found = explain_rule(lab)
    return [] if found is None else [found]


def explain_decoded(finding: Finding, lab) -> list[Explanation]:
    """`temporal-upsample-first-frame`: k T decoded frames on one side, 1 + k (T - 1) on the other, of T latent frames."""
    made = {role: lab.own_value(role, finding.place) for role in ("reference", "candidate")}
    latents = {role: lab.traces[role].get("vae_latents") for role in made}
    if any(t is None or t.ndim != 5 for t in (*made.values(), *latents.values())):
        return []
    if latents["reference"].shape[2] != latents["candidate"].shape[2]:
        return []
    count, (a, b) = latents["reference"].shape[2], (made[role].shape[2] for role in ("reference", "candidate"))
    k = abs(a - b) + 1
    many = "reference" if a > b else "candidate"
    few = "candidate" if many == "reference" else "reference"
    if k < 2 or count < 2 or made[many].shape[2] != k * count or made[few].shape[2] != 1 + k * (count - 1):
        return []
    later = made[many][:, :, k - 1 :]
    left = relative_l2(made[few], later) if later.shape == made[few].shape else None
    aligned = "" if left is None else f"; without its first {k - 1} it is {left:.2g} (relative L2) from the other side's"
    return [Explanation(
        id="temporal-upsample-first-frame", stage="latent_handling", departs=many, explained=1.0,
        statement=f"{many}'s decoder makes {k * count} frames of {count} latent frames, the {few}'s {1 + k * (count - 1)}: "
                  "a causal decoder does not upsample the first frame in time",
        relation={"kind": "frames", "latent_frames": count, "reference": a, "candidate": b, "factor": k},
        experiment=f"counted: {k} · {count} on one side, 1 + {k} · ({count} - 1) on the other{aligned}",
        fix=f"upsample the first chunk of the {many}'s decoder in space only")]  # fmt: skip
