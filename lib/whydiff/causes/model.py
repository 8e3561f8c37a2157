"""The network got the same inputs and made another prediction: what does it compute differently?"""

from __future__ import annotations

import contextlib

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.causes.latents.sign import explain_sign
from whydiff.evidence.recording.diffusers_probes import denoisers, has_probes


def explain(finding: Finding, lab) -> list[Explanation]:
    """Cheapest first: reversed sign; rotary embeddings left out."""
    return explain_sign(finding, lab) or explain_rope(finding, lab)


def explain_rope(finding: Finding, lab) -> list[Explanation]:
    """Run a live side without its rotary embeddings: does it now predict what the other side predicts?

    Rotating by position 0 changes nothing (RoFormer, Su et al. 2021, arXiv 2104.09864), so ids of zero switch it off;
    networks that make their own positions have the output of their rope module replaced by the identity rotation.
    """
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        if side is None or not has_probes(side.subject):
            continue
        trace = without_rope(lab, role)
        if trace is None or any(place not in trace for place in finding.places):
            continue
        target = finding.candidate if role == "reference" else finding.reference
        own = finding.reference if role == "reference" else finding.candidate
        if not _closed(finding, lab, target, trace) or _closed(finding, lab, target, _as_it_is(lab, role)):
            continue
        share = min(explained_share(target[p], own[p], trace[p]) for p in finding.places if p in target)
        other = "candidate" if role == "reference" else "reference"
        return [Explanation(
            id="rope-not-applied", statement=f"{other}'s network does not apply rotary position embeddings",
            relation={"kind": "rope", other: False, role: True}, explained=share, departs=other,
            experiment=f"ran the {role}'s network without rotary embeddings on the same inputs: it predicts what the {other} predicts",
            fix=f"pass the rotary tables (from img_ids and txt_ids) to the attention of the {other}'s network")]  # fmt: skip
    return []


def _closed(finding: Finding, lab, target, trace) -> bool:
    return all(p in trace and lab.closes(finding, target[p], trace[p]) for p in finding.places if p in target)


def _as_it_is(lab, role: str):
    """The control: a side that counts its calls may predict something else in any further run, with its rope as without."""
    return lab.run(role, substitute=lab.put_into(role, lab.traces["reference"]))


def without_rope(lab, role: str):
    """A forced run of a diffusers side with every rotation the identity, or None where the side has no rope to switch off."""
    side, values = lab.sides[role], lab.traces["reference"]
    positions = {p.probe for p in values if p.probe in ("model_input/img_ids", "model_input/txt_ids")}
    put = lab.put_into(role, values)
    switched = []  # what did rotate, and no longer does: many networks call a table that they add `pos_embed`

    def substitute(place, own):
        if place.probe in positions:
            switched.append(place)
            return torch.zeros_like(own)
        return put(place, own)

    def switch_off(module, _args, output):
        identity = _identity_rotation(output)
        if identity is not None:
            switched.append(module)
        return identity

    with contextlib.ExitStack() as stack:
        rotating = 0
        for network in denoisers(side.subject).values():
            for name, module in network.named_modules():
                if name.rsplit(".", 1)[-1] in ("rope", "pos_embed", "rotary_emb", "rope_embedder"):
                    handle = module.register_forward_hook(switch_off)
                    stack.callback(handle.remove)
                    rotating += 1
        if not positions and not rotating:
            return None
        trace = lab.run(role, substitute=substitute)
        return trace if switched else None


def _identity_rotation(output):
    """(cos, sin) -> (1, 0); complex phases -> 1. Anything else is left alone."""
    if isinstance(output, tuple) and len(output) == 2 and all(isinstance(t, torch.Tensor) for t in output):
        cos, sin = output
        return torch.ones_like(cos), torch.zeros_like(sin)
    if isinstance(output, torch.Tensor) and output.is_complex():
        return torch.ones_like(output)
    return None
