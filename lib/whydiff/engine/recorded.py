"""The walk when nothing can be run again: recorded tensors, images or settings alone.

A place is blamed only if nothing it is computed from differs already; what depends on the latents inherits from
everything before it.
"""

from __future__ import annotations

from whydiff.causes import shards_lost
from whydiff.causes.finding import ABSENT, CALLS, VALUES, Explanation, Finding
from whydiff.causes.registry import explain
from whydiff.engine.inheritance import inherits
from whydiff.engine.lab import Lab
from whydiff.engine.looking import LOOKED_INTO
from whydiff.engine.missing import call_counts, left_out
from whydiff.engine.rows import Row
from whydiff.engine.sketched import words_of
from whydiff.engine.walk import Named, size_named
from whydiff.evidence.traces.trace import Trace
from whydiff.places import Place, family, walk_key

# What a probe is computed from, where that is not "everything before it".
MADE_FROM = {
    "init_image": ("size",), "mask": ("size",), "image_latents": ("init_image",),
    "initial_noise": ("size",), "initial_latents": ("initial_noise", "image_latents", "sigmas"),
    "input_ids": (), "attention_mask": ("input_ids",),
    "prompt_embeds": ("input_ids", "attention_mask"), "pooled_prompt_embeds": ("input_ids", "attention_mask"),
    "negative_prompt_embeds": ("input_ids", "attention_mask"), "negative_pooled_prompt_embeds": ("input_ids", "attention_mask"),
    "image_embeds": ("init_image",),
    "step_noise": (), "vae_latents": ("latents",), "sigmas": (), "timesteps": ("sigmas",), "alphas_cumprod": (),
    "model_input/timestep": ("timesteps", "sigmas"), "model_input/guidance": (), "model_input/img_ids": ("size",),
    "model_input/txt_ids": ("prompt_embeds",),
    "model_input/pooled_projections": ("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
    "model_input/encoder_hidden_states": ("prompt_embeds", "negative_prompt_embeds"),
}  # fmt: skip


# Stages that can be computed again from what each side recorded before them, so that a cause shows beside what is inherited.
RECOMPUTED = ("initial_noise", "noise_pred", "latents", "vae_latents", "image")


def walk_recorded(lab: Lab, rows: list[Row], sizes: list[Explanation]) -> list[Named]:
    """The roots among the rows that stand out, each explained as far as recorded tensors allow."""
    named = [size_named(explanation) for explanation in sizes]
    if not rows:
        return named or settings_differ(lab)
    differing = {"size"} if sizes else set()
    broken: set[str] = set()  # sides that have values that are not finite: where they first appear is their place
    covered: set[str] = set()  # further probes that an explanation explains
    missing = _missing(lab)
    found = sorted([*findings(lab, rows), *missing], key=lambda f: walk_key(f.place))
    predictions = any(f.probe.startswith("noise_pred") for f in found)
    for finding in found:
        probe = finding.probe
        if finding.kind == ABSENT and not predictions:
            continue
        sources = MADE_FROM.get(probe, MADE_FROM.get(family(probe)))
        inherited = probe in covered or (bool(differing) if sources is None else bool(differing & set(sources)))
        if not inherited and not inherits(finding, lab, differing) and not (named and sources is None):
            named.append(Named(finding, of_ranks(lab, rows, finding) or (explain(finding, lab) if comparable(finding) else []), {}))
            finding.inside = innermost(lab, rows, finding) if not named[-1].explanations else None
            covered |= {probe for explanation in named[-1].explanations for probe in explanation.covers}
            if finding.kind == CALLS:
                differing |= {"noise_pred", "latents"}
        elif family(probe) in RECOMPUTED and probe not in differing and not nonfinite(finding) & broken and (
                comparable(finding) and (explanations := explain(finding, lab))):  # fmt: skip
            named.append(Named(finding, explanations, {}))
        differing |= {probe, family(probe)}
        broken |= nonfinite(finding)
    return named


def nonfinite(finding: Finding) -> set[str]:
    """The sides that have values that are not finite at a finding's places."""
    return {role for role in ("reference", "candidate") if any(not t.isfinite().all() for t in getattr(finding, role).values())}


def _missing(lab: Lab) -> list[Finding]:
    """Arguments left out and evaluations skipped on one side."""
    reference, candidate = lab.traces["reference"], lab.traces["candidate"]
    calls = call_counts(reference, candidate)
    apart = calls is not None and reference.get("timesteps") is not None and candidate.get("timesteps") is not None
    longer = apart and reference.get("timesteps").shape != candidate.get("timesteps").shape
    return left_out(reference, candidate) + ([calls] if calls is not None and not longer else [])


def findings(lab: Lab, rows: list[Row], candidate: Trace | None = None) -> list[Finding]:
    """The rows that stand out, one finding for each probe, in walking order. `candidate`: its trace, where that is another one."""
    trace = candidate or lab.traces["candidate"]
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row.stands_out and not row.place.probe.startswith("modules"):
            grouped.setdefault(row.place.probe, []).append(row)
    return [_finding(lab, probe, group, trace) for probe, group in grouped.items()]


def _finding(lab: Lab, probe: str, group: list[Row], trace: Trace) -> Finding:
    reference, candidate = {}, {}
    for row in group:
        if row.estimated:
            continue
        reference[row.place] = lab.traces["reference"][row.place]
        pair = lab.pair(row.place, trace[row.place])
        if pair is not None:
            candidate[row.place] = pair[1]
    first = group[0]
    return Finding(probe, [row.place for row in group], reference, candidate, first.difference, first.floor,
                   first.why or (words_of(lab, first.place, trace) if first.estimated else ""))


def comparable(finding: Finding) -> bool:
    """Are there tensors for an experiment? Of places with fingerprints there are none."""
    return bool(finding.reference) or finding.kind != VALUES


def innermost(lab: Lab, rows: list[Row], finding: Finding) -> dict | None:
    """The first recorded module that departs at an unexplained output of a network, all of whose inputs agree."""
    first = departing(rows, finding)
    if first is None:
        return None
    own = lab.renamed.get(first.place)
    names = {"module": own, "module_reference": first.place.module} if own else {"module": first.place.module}
    return names | {"difference": first.difference, "noise_floor": first.floor}


def departing(rows: list[Row], finding: Finding) -> Row | None:
    """The first recorded module of the step and branch of a network's output that stands out."""
    if finding.probe not in LOOKED_INTO:
        return None
    place = finding.place
    return next((r for r in rows if r.place.probe == "modules" and r.stands_out and r.place.stage == place.stage
                 and (r.place.step, r.place.branch) == (place.step, place.branch)), None)  # fmt: skip


def of_ranks(lab: Lab, rows: list[Row], finding: Finding) -> list[Explanation]:
    """What several ranks do not hold all of, at a finding or at the first module that departs."""
    first = departing(rows, finding)
    for row in [first] if first is not None else [r for r in rows if r.place == finding.place]:
        if row.place in lab.lost_shards:
            role, found = lab.lost_shards[row.place]
            other = lab.traces["candidate" if role == "reference" else "reference"]
            explanation = shards_lost.explain(found, other[row.place], row.floor, role)
            if explanation is not None:
                explanation.module = row.place.module
                return [explanation]
    return []


def settings_differ(lab: Lab) -> list[Named]:
    """With settings alone: each that both state and that differs, unexplained (nothing was run)."""
    from whydiff.engine.summary import stated_settings

    reference, candidate = (stated_settings(lab, role) for role in ("reference", "candidate"))
    apart = [k for k in reference if k in candidate and reference[k] != candidate[k]]
    if not apart:
        return []
    words = "; ".join(f"{k}: {reference[k]!r} against {candidate[k]!r}" for k in apart)
    return [Named(Finding("settings", [Place("settings")], {}, {}, None, 0.0, words), [], {})]
