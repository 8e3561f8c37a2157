"""One tensor in the hands of several ranks: put together again, and held against the whole that a single process has.

A parallel run leaves a tensor replicated on every rank, sharded along an axis (padded where the ranks do not divide it), or as
partial sums that a reduction was still to add.
"""

from __future__ import annotations

import dataclasses

import torch

from whydiff.measure.compare import relative_l2

SURE = 0.5  # relative distance below which a shard is taken to be a slice of the whole


@dataclasses.dataclass(frozen=True)
class Assembly:
    """`tensor` in the whole's shape, or None where no way of putting the parts together gives that shape.

    `how`: "replicated", "sharded", "partial sums"; `axis` of a sharded one. `slots`: for each rank which shard of the whole it
    holds; `spans` are the shards' (start, length) along the axis; `missing` and `repeated` are shards that no rank, or more than one,
    holds.
    """

    how: str
    tensor: torch.Tensor | None
    difference: float
    axis: int | None = None
    slots: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    padding: int = 0

    @property
    def missing(self) -> list[int]:
        return [n for n in range(len(self.spans)) if n not in self.slots]

    @property
    def repeated(self) -> list[int]:
        return [n for n in range(len(self.spans)) if self.slots.count(n) > 1]

    @property
    def words(self) -> str:
        ranks = len(self.slots)
        if self.how != "sharded":
            return f"{self.how} on {ranks} ranks"
        order = "" if self.missing or list(self.slots) == sorted(self.slots) else f", in the order {list(self.slots)}"
        return f"sharded along axis {self.axis} over {ranks} ranks{f', {self.padding} of padding' if self.padding else ''}{order}"


def assemble(parts: list[torch.Tensor], whole: torch.Tensor) -> Assembly:
    """The parts (one for each rank, in their order) put together in the way that comes nearest to `whole`, the simplest first."""
    found = [*_replicated(parts, whole), *_sums(parts, whole), *(s for axis in range(whole.ndim) for s in _sharded(parts, whole, axis))]
    return min(found, key=lambda a: a.difference, default=Assembly("apart", None, float("inf"), slots=tuple(range(len(parts)))))


def _replicated(parts, whole):
    if all(part.shape == whole.shape for part in parts):
        alike = all(torch.equal(part, parts[0]) for part in parts)
        # Ranks that should hold the same and do not: the rank that is farthest off is what must be seen.
        worst = max(parts, key=lambda part: relative_l2(whole, part))
        yield Assembly("replicated", parts[0] if alike else worst, relative_l2(whole, worst), slots=tuple(range(len(parts))))


def _sums(parts, whole):
    if len(parts) > 1 and all(part.shape == whole.shape and part.is_floating_point() for part in parts):
        total = torch.stack([part.double() for part in parts]).sum(0).to(parts[0].dtype)
        yield Assembly("partial sums", total, relative_l2(whole, total), slots=tuple(range(len(parts))))


def _sharded(parts, whole, axis):
    """Parts that agree with the whole on all axes but `axis`, laid where each fits; the end of the last may be padding."""
    size = whole.shape[axis]
    rest = [n for i, n in enumerate(whole.shape) if i != axis]
    if any(part.ndim != whole.ndim or [n for i, n in enumerate(part.shape) if i != axis] != rest for part in parts):
        return
    lengths = [part.shape[axis] for part in parts]
    if not all(0 < length < size for length in lengths):
        return
    spans = _spans(lengths, size)
    if len(spans) < len(parts):
        return
    slots = [_slot(part, rank, whole, axis, spans) for rank, part in enumerate(parts)]
    tensor = torch.zeros_like(whole, dtype=parts[0].dtype)
    for part, slot in zip(parts, slots, strict=True):
        start, length = spans[slot]
        tensor.narrow(axis, start, length).copy_(part.narrow(axis, 0, length))
    padding = max(0, sum(lengths) - size)
    yield Assembly("sharded", tensor, relative_l2(whole, tensor), axis, tuple(slots), tuple(spans), padding)


def _spans(lengths: list[int], size: int) -> list[tuple[int, int]]:
    """(start, length) of each shard: one after the other where they fill the axis, else all as long as the longest but for the last,
    of which there may be more than ranks that recorded."""
    if sum(lengths) == size:
        return [(sum(lengths[:i]), length) for i, length in enumerate(lengths)]
    even = max(lengths)
    return [(start, min(even, size - start)) for start in range(0, size, even)]


def _slot(part, rank: int, whole, axis: int, spans) -> int:
    """Which shard a rank holds: its own number, unless its values are clearly another shard's."""
    apart = [relative_l2(whole.narrow(axis, start, length), part.narrow(axis, 0, length)) if length <= part.shape[axis] else float("inf")
             for start, length in spans]  # fmt: skip
    best = min(range(len(spans)), key=apart.__getitem__)
    return best if apart[best] < SURE and apart[best] < 0.5 * apart[rank] else rank
