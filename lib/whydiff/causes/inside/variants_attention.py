"""Variants of attention that come from the run itself: token counts of text, padding for ranks, queries before their rotation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from whydiff.causes.inside.functions import Seen
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.variants import ATTENTION
from whydiff.causes.inside.variants_made import NotHere, Variant, attention
from whydiff.causes.inside.variants_shards import variants as shards
from whydiff.evidence.recording.calls import tensors_in

RANKS = (2, 3, 4, 8)


def of_inputs(inside: Inside, seen: list[Seen]) -> list[Variant]:
    """Lines for this module: its inputs tell how many of the tokens are text."""
    calls = [call for call in seen if call.name in ATTENTION]
    if not calls:
        return []
    tokens = max((call.shapes[1][-2] for call in calls if len(call.shapes) > 1), default=0)
    counts = sorted({t.shape[1] for t in tensors_in(inside.calls["reference"].inputs) if t.dim() == 3 and 0 < t.shape[1] < tokens})
    found = [Variant(ATTENTION, f"{where} {count} keys, those of the text, are counted {ranks} times", "ring-double-counts-replicated-text",
                     _repeated(count, ranks, where == "the last"), 2, ("parallel-config-not-propagated",))
             for count in counts for ranks in RANKS for where in ("the first", "the last")]  # fmt: skip
    found += shards(ATTENTION, counts)
    paddings = {-tokens % ranks for ranks in (*RANKS, 16, 32, 64, 128)} | set(range(1, 8))
    found += [Variant(ATTENTION, f"{n} padding tokens of zeros are attended to", "sp-padding-unmasked", _padded(n), 3)
              for n in sorted(paddings) if n]  # fmt: skip
    turned = [_turned(call, seen) for call in calls]
    if all(pair is not None for pair in turned):
        found.append(Variant(ATTENTION, "queries and keys are not rotated", "rope-not-applied", _unrotated(calls, turned), 1))
    return found


def _turned(call: Seen, seen: list[Seen]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Queries and keys of a call as they were before a rotary embedding turned them; None where none is to be seen."""
    given = dict(zip(("query", "key"), call.args)) | call.kwargs
    before = [_before_turning(given[name], seen, call.index) if name in given else None for name in ("query", "key")]
    return None if any(tensor is None for tensor in before) else tuple(before)


def _before_turning(after: torch.Tensor, seen: list[Seen], until: int) -> torch.Tensor | None:
    """The last tensor before it whose pairs of channels (neighbours, or one of each half) have the lengths of its pairs."""
    if after.dim() != 4 or after.shape[-1] % 2:
        return None
    for call in reversed([c for c in seen if c.index < until]):
        made = call.result
        if not isinstance(made, torch.Tensor) or made.dim() != 4 or not made.is_floating_point():
            continue
        for own in (made, made.transpose(1, 2)):
            if own.shape == after.shape and not torch.allclose(own, after, rtol=1e-3, atol=1e-5) and _same_lengths(own, after):
                return own.detach().clone().to(after.dtype)
    return None


def _same_lengths(one: torch.Tensor, other: torch.Tensor) -> bool:
    eps = 8 * max(torch.finfo(t.dtype).eps for t in (one, other))
    for split in (lambda t: t.unflatten(-1, (-1, 2)).norm(dim=-1), lambda t: t.unflatten(-1, (2, -1)).norm(dim=-2)):
        a, b = split(one.float()), split(other.float())
        if bool(((a - b).abs() <= eps * (b + b.mean())).all()):
            return True
    return False


def _unrotated(calls: list[Seen], before: list[tuple[torch.Tensor, torch.Tensor]]):
    known = [(dict(zip(("query", "key"), call.args)) | call.kwargs)["query"] for call in calls]

    def change(q, k, v, mask, causal, scale):
        for query, (own_q, own_k) in zip(known, before, strict=True):
            if query.shape == q.shape and torch.equal(query, q):
                return own_q, own_k, v, mask, causal, scale
        raise NotHere

    return attention(change)


def _repeated(count: int, ranks: int, last: bool):
    def change(q, k, v, mask, causal, scale):
        if mask is not None or causal or k.shape[-2] <= count:
            raise NotHere
        part = (slice(k.shape[-2] - count, None) if last else slice(0, count),)
        more_k, more_v = ([t[..., part[0], :]] * (ranks - 1) for t in (k, v))
        return q, torch.cat([k, *more_k], -2), torch.cat([v, *more_v], -2), None, causal, scale

    return attention(change)


def _padded(n: int):
    def change(q, k, v, mask, causal, scale):
        if causal:
            raise NotHere
        if mask is not None:
            mask = F.pad(mask, (0, n), value=True if mask.dtype == torch.bool else 0.0)
        return q, F.pad(k, (0, 0, 0, n)), F.pad(v, (0, 0, 0, n)), mask, causal, scale

    return attention(change)
