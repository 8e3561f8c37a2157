"""Faults of attention masks."""

from __future__ import annotations

import torch

from whydiff.faults.fault import fault
from whydiff.faults.surgery import attend_through, attentions, networks

# Prompts of unequal length: the shorter is padded, and the mask has something to hide.
_TWO = {"prompt": ["two blue squares on black", "red"], "negative_prompt": ["a red circle", "one"]}


def _keep(mask: torch.Tensor) -> torch.Tensor:
    """Which keys a mask keeps, whether it is boolean or added to the scores."""
    return mask if mask.dtype == torch.bool else mask > -1


@fault("attention-mask-inverted", "ltx", "qwen", **_TWO)
def _(trial):
    def inverted(sdpa, query, key, value, mask, **options):
        # 0 and -10000 read as False and True: what was hidden is what is seen.
        return sdpa(query, key, value, attn_mask=None if mask is None else ~_keep(mask), **options)

    _all(trial, inverted)


@fault("attention-mask-dropped", "ltx", "qwen", **_TWO)
def _(trial):
    _all(trial, lambda sdpa, query, key, value, _mask, **options: sdpa(query, key, value, **options))


@fault("attention-mask-added-as-bool", "ltx", "qwen", **_TWO)
def _(trial):
    def added(sdpa, query, key, value, mask, **options):
        return sdpa(query, key, value, attn_mask=None if mask is None else _keep(mask).to(query.dtype), **options)

    _all(trial, added)


def _all(trial, kernel) -> None:
    """Another kernel in every attention, or in those of one block where the port has two code paths."""
    modules = attentions(trial.faulty)
    one_block = trial.draw.random() < 0.3
    block = trial.draw.randrange(len(networks(trial.faulty)[0].transformer_blocks))
    for name, module in modules.items():
        if not one_block or f".{block}." in f".{name}.":
            attend_through(module, kernel)
