"""Tensors that lie in files larger than memory: mapped, not read, so that what was looked at can leave memory again.

The system counts mapped pages as resident until they are let go. `read_ahead` asks for a stretch before it is used and lets it go
afterwards; `let_go` does the latter for a whole tensor. Both do nothing for tensors in ordinary memory, which cannot be told by
looking at them: only mappings made here are known, by their addresses.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import threading
import weakref

import torch
from torch import Tensor

_AHEAD = 1 << 24  # bytes that are asked for beyond those that are used

_lock = threading.RLock()
_starts: list[int] = []  # addresses of mappings, sorted
_mappings: dict[int, weakref.ref] = {}


def known(mapping: mmap.mmap) -> mmap.mmap:
    """Remember a mapping of a file that nobody writes to, as long as something uses it."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    with _lock:
        if start not in _mappings:
            bisect.insort(_starts, start)
        _mappings[start] = weakref.ref(mapping, lambda _: _forget(start))
    return mapping


def map_file(path) -> mmap.mmap:
    """A file as memory of its own: writing to it would change this process's copy alone."""
    with open(path, "rb") as file:
        return known(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


@contextlib.contextmanager
def read_ahead(a: Tensor, b: Tensor, start: int, stop: int):
    """For the time that flat elements `start` to `stop` of two contiguous tensors are used."""
    stretches = [found for t in (a, b) if t.is_contiguous() and (found := _stretch(t, start, stop)) is not None]
    for mapping, first, last in stretches:
        _advise(mapping, "MADV_WILLNEED", first, last + _AHEAD)
    yield
    for mapping, first, last in stretches:
        _advise(mapping, "MADV_DONTNEED", first, last)


def let_go(*tensors: Tensor) -> None:
    """The values are not needed for now; where they are again, they are read from the file again."""
    for tensor in tensors:
        if _starts and tensor.device.type == "cpu" and tensor.layout is torch.strided and tensor.numel():
            span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            if (found := _stretch(tensor, 0, span)) is not None:
                _advise(found[0], "MADV_DONTNEED", *found[1:])


def _stretch(tensor: Tensor, start: int, stop: int) -> tuple[mmap.mmap, int, int] | None:
    """(mapping, first byte, last byte in it) of elements in memory order, if they lie in a mapping."""
    if not _starts:
        return None
    width, base = tensor.element_size(), tensor.data_ptr()
    with _lock:
        at = bisect.bisect_right(_starts, base) - 1
        mapping = _mappings[_starts[at]]() if at >= 0 else None
        if mapping is None or base >= _starts[at] + len(mapping):
            return None
        first = base - _starts[at]
    return mapping, first + start * width, first + stop * width


def _advise(mapping: mmap.mmap, advice: str, first: int, last: int) -> None:
    first -= first % mmap.PAGESIZE
    last = min(last, len(mapping))
    if hasattr(mmap, advice) and first < last:  # not on every system: there memory grows
        mapping.madvise(getattr(mmap, advice), first, last - first)


def _forget(start: int) -> None:
    with _lock:
        _mappings.pop(start, None)
        at = bisect.bisect_left(_starts, start)
        if at < len(_starts) and _starts[at] == start:
            del _starts[at]
