"""Tensors that lie in files larger than memory: mapped, not read, so that what was looked at can leave memory again.

The system counts mapped pages as resident until they are let go. `read_ahead` asks for a stretch before it is used and lets it go
afterwards, `let_go` a whole tensor. Both do nothing for tensors in ordinary memory, whose values would be lost: only storages that
were made here are told so, by a mark that they carry. Writing to a mapped tensor is not allowed for.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os

import torch
from torch import Tensor

LARGE = 1 << 28  # bytes of files from which on it is worth reading a page again where it is needed again
_AHEAD = 1 << 24  # bytes that are asked for beyond those that are used
_MARK = "_mapped_by_whydiff"


def map_bytes(path, *, leaves: bool = False) -> Tensor:
    """A file as uint8. `leaves`: its pages are to leave memory after use, as those of large files should. Raises OSError."""
    size = os.path.getsize(path)
    storage = torch.UntypedStorage.from_file(os.fspath(path), False, size) if size else torch.UntypedStorage(0)
    setattr(storage, _MARK, leaves and size > 0)
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def large(paths) -> bool:
    """Are files together so large that their pages should leave?"""
    return sum(os.path.getsize(path) for path in paths) >= LARGE


@contextlib.contextmanager
def read_ahead(a: Tensor, b: Tensor, start: int, stop: int):
    """For the time that flat elements `start` to `stop` of two tensors are used; of one that is not contiguous, nothing is done."""
    stretches = [(t.data_ptr() + start * t.element_size(), t.data_ptr() + stop * t.element_size(), t)
                 for t in (a, b) if _leaves(t) and t.is_contiguous()]  # fmt: skip
    for first, last, tensor in stretches:
        _advise("MADV_WILLNEED", first, last + _AHEAD, tensor)
    yield
    for first, last, tensor in stretches:
        _advise("MADV_DONTNEED", first, last, tensor)


def ask_for(*tensors: Tensor) -> None:
    """The first values will be needed soon."""
    for tensor in tensors:
        if _leaves(tensor) and tensor.numel():
            _advise("MADV_WILLNEED", tensor.data_ptr(), tensor.data_ptr() + _AHEAD, tensor)


def let_go(*tensors: Tensor) -> None:
    """The values are not needed for now; where they are again, they are read from the file again."""
    for tensor in tensors:
        if _leaves(tensor) and tensor.numel():
            span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
            _advise("MADV_DONTNEED", tensor.data_ptr(), tensor.data_ptr() + span * tensor.element_size(), tensor)


def _leaves(tensor) -> bool:
    """Does it lie in a mapping made here, whose pages are to leave?"""
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return getattr(tensor.untyped_storage(), _MARK, False)


def _advise(advice: str, first: int, last: int, tensor: Tensor) -> None:
    """Tell the system about a range of addresses of a tensor's mapping; where it does not listen, memory grows."""
    storage = tensor.untyped_storage()
    first -= first % mmap.PAGESIZE  # a mapping begins with a page
    last = min(last, storage.data_ptr() + storage.nbytes())
    if (madvise := _madvise()) is not None and first < last:
        madvise(first, last - first, getattr(mmap, advice))


@functools.cache
def _madvise():
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):  # no such system
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found if hasattr(mmap, "MADV_DONTNEED") else None
