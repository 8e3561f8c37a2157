"""The tensors that checks feed to the network: the note's own, and such as a pipeline feeds."""

import dataclasses

import torch
from torch import Tensor

from longcat.parts import Shape


@dataclasses.dataclass(frozen=True)
class Inputs:
    """latents (1, 16, T, H, W), timestep (1,) in 0 to 1000, text and negative (1, L, D) with masks (1, L) or None."""

    name: str
    latents: Tensor
    timestep: Tensor
    text: Tensor
    negative: Tensor
    mask: Tensor | None = None
    negative_mask: Tensor | None = None
    scale: float = 4.0
    index: int = 25  # of the step in a grid of 50 that the scheduler is asked for


SIZE = (1, 16, 3, 8, 12)


def debug_inputs(seed: int) -> Inputs:
    """As the note's script has them: noise times 0.18215, timestep 500, random text, zeros for the negative, no mask."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SIZE, generator=generator) * 0.18215
    text = torch.randn(1, 24, Shape().text, generator=generator)
    return Inputs(f"debug {seed}", latents, torch.tensor([500.0]), text, torch.zeros_like(text))


def pipeline_inputs(seed: int) -> Inputs:
    """As a sampler has them on its way: unit noise, a timestep of the grid, two prompts of like length, padding, masks."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SIZE, generator=generator)
    text = torch.randn(1, 24, Shape().text, generator=generator)
    negative = torch.randn(1, 24, Shape().text, generator=generator)
    masks = [(torch.arange(24) < words).long().unsqueeze(0) for words in (6, 8)]
    text, negative = (t * m.unsqueeze(-1) for t, m in zip((text, negative), masks))
    return Inputs(f"pipeline {seed}", latents, torch.tensor([921.89]), text, negative, *masks)


def early_inputs(seed: int) -> Inputs:
    """The first step of a run whose two prompts share all words but the last: sound code, and a small effect of the text."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SIZE, generator=generator)
    mask = (torch.arange(24) < 20).long().unsqueeze(0)
    text = torch.randn(1, 24, Shape().text, generator=generator) * mask.unsqueeze(-1)
    negative = text.clone()
    negative[:, 19] = torch.randn(Shape().text, generator=generator)
    return Inputs(f"early {seed}", latents, torch.tensor([1000.0]), text, negative, mask, mask, index=0)
