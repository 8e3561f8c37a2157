"""Copies of what a run shows, made without holding it up: one for a tensor that several places show, on a side stream where on CUDA."""

from __future__ import annotations

import collections
import contextlib
import mmap
import threading

import torch

from whydiff.evidence.traces.trace_writer import Held

_RECENT = 6  # a layer's output is its container's, too: it is shown again at once or not at all
_SMALL = 1 << 16  # bytes that malloc has at hand
_KEPT = 256 << 20  # bytes of memory that wait for the next copies
_PAGE = 2 << 20  # bytes of a huge page
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Lent(Held):
    """A copy in memory that is used again once nobody needs the copy."""

    def __init__(self, tensor: torch.Tensor, room: torch.Tensor, rooms: Rooms):
        super().__init__(tensor)
        self.size = room.numel()  # what it takes: a room is somewhat larger than its tensor
        self._room, self._rooms = room, rooms

    def __del__(self):
        self._rooms.give_back(self._room)


class Rooms:
    """Memory for copies, apart from that which the run itself takes and gives back, and used again.

    New memory is found and cleared by the kernel page by page when it is first touched, which can take ten times as long as copying;
    and where copies took what the run has just given back, the run would pay that, too. So copies lie in huge pages of their own.
    """

    def __init__(self):
        self.free: dict[int, list[torch.Tensor]] = collections.defaultdict(list)
        self.bytes = 0
        self.lock = threading.Lock()

    def of(self, size: int) -> torch.Tensor:
        """(n,) uint8 with n at least `size`."""
        size = -(-size // _PAGE) * _PAGE if size > _PAGE // 2 else size
        with self.lock:
            if self.free[size]:
                self.bytes -= size
                return self.free[size].pop()
        return _huge(size) if size >= _PAGE else _ordinary(size)

    def give_back(self, room: torch.Tensor) -> None:
        with self.lock:
            if self.bytes + room.numel() <= _KEPT:
                self.bytes += room.numel()
                self.free[room.numel()].append(room)


def _ordinary(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cpu")


def _huge(size: int) -> torch.Tensor:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return _ordinary(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # a process that forks does not share it
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


class Copies:
    """Keeps its last few copies, and some memory for the next ones."""

    def __init__(self):
        self.recent: collections.deque = collections.deque(maxlen=_RECENT)
        self.rooms = Rooms()
        self.streams: dict[torch.device, torch.cuda.Stream] = {}

    def of(self, own: torch.Tensor) -> Held:
        """A copy in the machine's memory. That of a CUDA tensor is on its way until its `ready` has returned."""
        if own.device.type == "cuda" and own.layout is torch.strided and not own.is_quantized:
            return self._on_its_way(own)
        same = self._same(own)
        if same is None:
            same = self._copied(own)
            if own.device.type == "cpu":
                self.recent.append((_where(own), same))
        return same

    def _copied(self, own: torch.Tensor) -> Held:
        size = own.numel() * own.element_size()
        if size < _SMALL or own.layout is not torch.strided or own.is_quantized or own.is_conj() or own.is_neg():
            return Held(own.to("cpu", copy=True))
        room = self.rooms.of(size)
        return Lent(room[:size].view(own.dtype).view(own.shape).copy_(own), room, self.rooms)

    def _same(self, own: torch.Tensor) -> Held | None:
        """The copy of this tensor, if it was shown a moment ago and holds the same bits still: looked at, as versions can lie.

        Where it would have to be fetched from a device for that, it is copied again.
        """
        number = _WHOLE_NUMBERS.get(own.element_size())
        if own.device.type != "cpu" or own.layout is not torch.strided or own.is_quantized or own.is_conj() or own.is_neg() or not number:
            return None
        where = _where(own)
        held = next((held for known, held in self.recent if known == where), None)
        return held if held is not None and torch.equal(own.view(number), held.tensor.view(number)) else None

    def _on_its_way(self, own: torch.Tensor) -> Held:
        """Copied to pinned memory behind what the current stream does, which goes on; the memory is not reused before."""
        stream = self.streams.setdefault(own.device, torch.cuda.Stream(own.device))
        stream.wait_stream(torch.cuda.current_stream(own.device))
        with torch.cuda.stream(stream):
            copy = torch.empty_like(own, device="cpu", pin_memory=True)
            copy.copy_(own, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(stream)
        own.record_stream(stream)
        return Held(copy, arrived.synchronize)


def _where(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg()
