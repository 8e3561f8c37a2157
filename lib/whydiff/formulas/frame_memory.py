"""Which frames a layer of a frame-by-frame video model looks at while it makes one frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Window:
    """The memory of one layer: a ring with room for `length` frames, of which every `dilation`-th is kept.

    `length` None keeps all frames, 1 none but the one being made. The frame being made is always seen. If it will be kept
    itself, the slot that it will overwrite is hidden already, so a full ring shows one past frame less on those frames.
    Source: Overworldai/world_engine @208c909, src/model/kv_cache.py (16, 1 in local layers; 128, 8 in global ones).
    """

    length: int | None = None
    dilation: int = 1

    def __post_init__(self):
        if self.dilation < 1 or (self.length is not None and (self.length < 1 or self.length % self.dilation)):
            raise ValueError(f"a window of {self.length} frames cannot keep every {self.dilation}.: give multiples of it, from 1 on.")

    def seen(self, frame: int) -> tuple[int, ...]:
        """The frames that are looked at while `frame` (from 0) is made, oldest first, itself last."""
        past = range(0, frame, self.dilation)
        if self.length is not None:
            room = self.length // self.dilation - (frame % self.dilation == 0)
            past = past[max(len(past) - room, 0) :]
        return (*past, frame)

    def newest_past(self, frame: int) -> int | None:
        """How many frames back the newest past frame lies; None where no past frame is seen."""
        seen = self.seen(frame)
        return frame - seen[-2] if len(seen) > 1 else None

    def __str__(self) -> str:
        if self.length == 1:
            return "no past frame"
        every = "every frame" if self.dilation == 1 else f"one frame in {self.dilation}"
        return f"{every} so far" if self.length is None else f"{every} of the last {self.length}"


def first_difference(one: Sequence[Window], other: Sequence[Window], frames: int) -> int | None:
    """The first of `frames` frames in which some layer sees other frames; None if there is none. One window a layer."""
    if len(one) != len(other):
        raise ValueError(f"one side has {len(one)} layers, the other {len(other)}.")
    return next((t for t in range(frames) if any(a.seen(t) != b.seen(t) for a, b in zip(one, other))), None)


def find_window(seen: Sequence[Sequence[int]]) -> Window | None:
    """The window that shows exactly `seen[t]` in each frame t = 0, 1, ... ; the simplest if several do, None if none does.

    A ring that never was full within these frames is indistinguishable from one that keeps all: then `length` is None.
    """
    frames = len(seen)
    wanted = [tuple(s) for s in seen]
    for dilation in range(1, max(frames, 2)):
        for length in (None, *range(dilation, frames * dilation + 1, dilation)):
            window = Window(length, dilation)
            if all(window.seen(t) == wanted[t] for t in range(frames)):
                return window
    return None


def periods(windows: Sequence[Window | None]) -> list[tuple[Window | None, list[int]]]:
    """Layers grouped by their window, in the order of their first layer."""
    groups: dict[Window | None, list[int]] = {}
    for layer, window in enumerate(windows):
        groups.setdefault(window, []).append(layer)
    return list(groups.items())
