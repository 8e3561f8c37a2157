"""Where in its tensor a difference sits: by token, row and column, frame, channel and head, with what the run tells of its axes."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Finding
from whydiff.evidence.recording.calls import tensors_in
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.profiles import at_a_glance, profile
from whydiff.places import Place

HEADS = ("heads", "num_heads", "num_attention_heads", "n_heads")  # what attentions call the number of their heads


def concentration(finding: Finding, reference: Trace | None) -> tuple[list[dict], str]:
    """(the share of the squared error along each axis, the same in words or ""), of the module inside where one was found.

    Each entry is `{"axis": name, "size": n, "shares": [...]}`, as in `measure.profiles`. Describes, and explains nothing.
    """
    one, other, heads = _inside(finding) if finding.inside is not None else (*_outside(finding), None)
    if one is None or one.shape != other.shape:
        return [], ""
    tokens = one.shape[1] if one.ndim in (3, 4) else 0
    known = {"grid": _grid(tokens, reference), "heads": heads}
    probe = finding.probe if finding.inside is None else "modules"
    words = at_a_glance(one, other, probe, **known, padding=_padding(finding.place, tokens, reference))
    return [entry.to_dict() for entry in profile(one, other, probe, **known)], words


def _outside(finding: Finding) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    here = finding.place in finding.candidate
    return (finding.reference[finding.place], finding.candidate[finding.place]) if here else (None, None)


def _inside(finding: Finding) -> tuple[torch.Tensor | None, torch.Tensor | None, int | None]:
    """What counterparts inside a network put out, or what their code handed to a module, and the heads of an attention."""
    entry = finding.culprit
    calls = [] if entry is None else [entry.calls["reference"], entry.calls["candidate"]]
    if entry is not None and entry.received:
        pairs = zip(*entry.received, strict=False)
    elif calls and all(calls):
        pairs = zip(*(tensors_in(call.output) for call in calls), strict=False)
    else:
        return None, None, None
    apart = [(a, b) for a, b in pairs if a.shape == b.shape and not torch.equal(a, b)]
    return (*apart[0], _heads(entry.roots["candidate"], entry.name)) if apart else (None, None, None)


def _heads(root: torch.nn.Module | None, name: str) -> int | None:
    """How many heads the innermost module around (or at) `name` has that tells."""
    found, part = None, root
    for step in ["", *name.partition("/")[2].split(".")]:
        part = part if not step else getattr(part, step, None)
        told = [value for value in (getattr(part, key, None) for key in HEADS) if isinstance(value, int)]
        found = told[0] if told else found
    return found


def _grid(tokens: int, trace: Trace | None) -> tuple[int, int] | None:
    """(rows, columns) of packed tokens: the factors of their number that have the picture's proportions."""
    image = trace.get("image") if trace is not None else None
    if image is None or image.ndim != 4 or not tokens:
        return None
    height, width = image.shape[1:3]
    rows = round((tokens * height / width) ** 0.5)
    return (rows, tokens // rows) if rows > 1 and rows * (tokens // rows) == tokens and rows * width == tokens // rows * height else None


def _padding(place: Place, tokens: int, trace: Trace | None) -> torch.Tensor | None:
    """Which of the prompt's tokens are padding, (L,), if the mask of this encoder was recorded and has their number."""
    if trace is None or place.stage != "prompt_encoding":
        return None
    masks = [event.tensor for at, event in trace.events.items() if at.probe.startswith("attention_mask") and event.tensor.ndim == 2]
    return next((mask[0] == 0 for mask in masks if mask.shape[1] == tokens), None)
