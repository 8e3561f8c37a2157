"""What a difference may owe to an earlier one, although values are put in place stage by stage."""

from __future__ import annotations

from whydiff.causes.finding import VALUES, Finding
from whydiff.engine.lab import Lab
from whydiff.places import Place, family, walk_key

# What a network, and guidance after it, make of inputs: where an input of another shape could not be put in place, these follow.
FOLLOWING = ("noise_pred_text", "noise_pred_uncond", "noise_pred")


def may_inherit(finding: Finding, lab: Lab) -> str:
    """Why an unexplained difference may come from an earlier place that could not be repaired; "" where none is known."""
    for places, why, concerned in ((lab.unrepaired, "could not be repaired in the candidate's dtype", True),
                                   (lab.unshaped, "has another shape and could not be put in place", finding.probe in FOLLOWING)):  # fmt: skip
        if concerned and any(walk_key(place) < walk_key(finding.place) for place in places):
            return f"{finding.probe} differs, too, but {places[0].probe} {why}, so that difference may be inherited from it."
    return ""


def unsettled(unused: dict[str, Finding], named: list) -> list[str]:
    """Arguments that one network does without, beside a cause inside it: whether they matter was not seen apart from that cause."""
    inside = [explanation.id for entry in named for explanation in entry.explanations if explanation.module]
    if not inside:
        return []
    kept = {entry.finding.probe for entry in named}
    return [f"{probe} reaches one network only; beside {inside[0]} it could not be seen whether that matters: repair that first."
            for probe in unused if probe not in kept]  # fmt: skip


def inherits(finding: Finding, lab: Lab, settled: set[str]) -> str:
    """"sigmas" for timesteps that follow from sigmas found to differ, by the map both sides share: t = 1000 · sigma."""
    if finding.kind != VALUES or family(finding.probe) != "timesteps" or "sigmas" not in settled or finding.place not in finding.candidate:
        return ""
    sigmas = {role: lab.own_value(role, Place("sigmas")) for role in ("reference", "candidate")}
    if any(value is None for value in sigmas.values()):
        return ""
    mine, theirs = finding.reference[finding.place].double(), finding.candidate[finding.place].double()
    a, b = sigmas["reference"].double()[: mine.numel()], sigmas["candidate"].double()[: theirs.numel()]
    if a.numel() != mine.numel() or b.numel() != theirs.numel() or not a.norm():
        return ""
    scale = (a @ mine / (a @ a)).item()
    # Integer timesteps may be cut: one unit of rounding on top of the reference's own departure from the map.
    slack = (mine - scale * a).abs().max().item() + (1.0 if not finding.candidate[finding.place].is_floating_point() else scale * 1e-6)
    return "sigmas" if ((theirs - scale * b).abs() <= slack).all() else ""
