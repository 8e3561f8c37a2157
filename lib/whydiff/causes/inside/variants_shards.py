"""Attention as ranks compute it that do not know of each other: each sees its own part of the sequence alone."""

from __future__ import annotations

import torch

from whydiff.causes.inside.variants_made import NotHere, Variant

RANKS = (2, 3, 4, 8)
ID = "parallel-config-not-propagated"


def variants(functions: tuple[str, ...], counts: list[int]) -> list[Variant]:
    """`counts`: how many of the tokens may be text, which every rank has; 0 where the text is divided like the rest."""
    found = [Variant(functions, f"each of {n} parts of the sequence is attended to by itself alone", ID, _apart(n, 0, False), 2) for n in RANKS]
    found += [Variant(functions, f"only the first of {n} parts of the sequence is attended to", ID, _first(n), 2) for n in RANKS]
    found += [Variant(functions, f"each of {n} parts of the picture is attended to by itself and the text, {where} {count} tokens, alone", ID,
                      _apart(n, count, where == "the last"), 2)
              for count in counts for n in RANKS for where in ("the first", "the last")]  # fmt: skip
    return found


def pieces(length: int, parts: int) -> list[slice]:
    """A sequence divided among ranks: equal parts, the last shorter."""
    size = -(-length // parts)
    found = [slice(start, min(start + size, length)) for start in range(0, length, size)]
    if len(found) != parts:
        raise NotHere
    return found


def _apart(parts: int, count: int, last: bool):
    def apply(function, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **rest):
        length = query.shape[-2]
        if attn_mask is not None or is_causal or key.shape[-2] != length or length <= count:
            raise NotHere
        text = slice(length - count, length) if last else slice(0, count)
        start = 0 if last else count
        made, of_text = [], None
        for piece in pieces(length - count, parts):
            own = slice(start + piece.start, start + piece.stop)
            order = (own, text) if last else (text, own)
            q, k, v = (torch.cat([t[..., part, :] for part in order], -2) for t in (query, key, value))
            out = function(q, k, v, **rest)
            sizes = [part.stop - part.start for part in order]
            one, two = out.split(sizes, -2)
            made.append(one if last else two)
            of_text = (two if last else one) if of_text is None else of_text  # the first rank's
        return torch.cat([*made, of_text] if last else [of_text, *made], -2)

    return apply


def _first(parts: int):
    def apply(function, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **rest):
        if attn_mask is not None or is_causal or key.shape[-2] != query.shape[-2]:
            raise NotHere
        part = pieces(key.shape[-2], parts)[0]
        return function(query, key[..., part, :], value[..., part, :], **rest)

    return apply
