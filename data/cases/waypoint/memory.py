"""Which earlier frames each layer may look at, kept as the engines keep it: rings of slots that are written and overwritten."""

import torch
from torch import Tensor

from .options import Options


class Ring:
    """Slots for one frame each. Only frames divisible by `dilation` are kept; a frame about to be kept hides the slot that
    it will overwrite (Overworldai/world_engine @208c909, src/model/kv_cache.py)."""

    def __init__(self, slots: int, dilation: int = 1):
        self.frames: list[int | None] = [None] * slots
        self.dilation = dilation

    def slot(self, frame: int) -> int | None:
        return (frame // self.dilation) % len(self.frames) if frame % self.dilation == 0 else None

    def seen_by(self, frame: int) -> list[int]:
        return [kept for i, kept in enumerate(self.frames) if kept is not None and (i != self.slot(frame) or kept == frame)]

    def write(self, frame: int) -> None:
        if self.slot(frame) is not None:
            self.frames[self.slot(frame)] = frame


class Memory:
    """Keys and values of earlier frames, and for each layer the ring that says which of them it sees."""

    def __init__(self, options: Options, frames: int):
        self.frames, self.bank = frames, {}
        self.rings = [ring(options, layer) for layer in range(options.layers)]

    def visible(self, frame: int) -> Tensor:
        """(layers, frames) bool: what is looked at beside the frame itself."""
        mask = torch.zeros(len(self.rings), self.frames, dtype=torch.bool)
        for layer, one in enumerate(self.rings):
            mask[layer, one.seen_by(frame) if one is not None else []] = True
        return mask

    def write(self, frame: int, keys: Tensor, values: Tensor) -> None:
        """Keep what one pass made of `frame`; keys and values (layers, tokens, heads, D)."""
        self.bank[frame] = keys, values
        for one in self.rings:
            if one is not None:
                one.write(frame)

    def read(self, layer: int, visible: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keys and values (tokens, heads, D) of the frames that `visible` (frames,) admits and that were ever written."""
        chosen = [self.bank[frame] for frame in visible.nonzero().flatten().tolist() if frame in self.bank]
        if not chosen:
            return None
        return torch.cat([keys[layer] for keys, _ in chosen]), torch.cat([values[layer] for _, values in chosen])


def ring(options: Options, layer: int) -> Ring | None:
    """The ring of one layer; None where a build has no memory at all."""
    if options.memory == "none":
        return None
    if options.memory == "flat":
        return Ring(options.cap + 1)  # the slot of the frame being made is hidden
    if options.memory != "windows":
        raise ValueError(f"memory is {options.memory!r}; known are windows, flat and none.")
    if layer % options.global_period == 0:
        return Ring(options.global_window // options.dilation, options.dilation)
    return Ring(options.local_window)
