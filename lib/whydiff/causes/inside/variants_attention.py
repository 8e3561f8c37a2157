"""Variants of attention whose numbers come from the call itself: token counts of text, padding for a number of ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from whydiff.causes.inside.functions import Seen
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.variants import ATTENTION
from whydiff.causes.inside.variants_made import NotHere, Variant, attention
from whydiff.causes.inside.variants_shards import variants as shards
from whydiff.evidence.calls import tensors_in

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
    return found


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
