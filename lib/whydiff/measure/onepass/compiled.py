"""The pass over large tensors on the CPU: who reads which blocks of those that `machine.readable` lets through.

Tensors are read where they lie, in any of the usual types and any mix of them. What does not lie in row-major order is put in order
a few blocks at a time. The figures do not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from whydiff.measure import mapped
from whydiff.measure.onepass import machine
from whydiff.measure.onepass.plain import ulp_dtype
from whydiff.measure.onepass.totals import Totals
from whydiff.measure.tensors import flat_part, pieces

_TASK = 1 << 22  # elements that a thread takes at a time, at most
_ORDERED = 1 << 18  # elements that are put in order at a time: they fit a processor's cache
_COLUMNS = 128  # of a transposed tensor
_WIDE = (torch.float64, torch.int32)  # hold numbers that float32 does not
_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def totals(a: Tensor, b: Tensor, everything: bool = True, threads: int | None = None) -> Totals:
    """What a comparison of two tensors of one shape needs; `machine.readable` pairs only. `threads`: torch's own number by default."""
    order = _memory_order(a, b)
    ordered_a, ordered_b = a.permute(order), b.permute(order)
    rows, counts = _tables(ordered_a, ordered_b, everything, threads or torch.get_num_threads())
    found = _summed(rows, counts)
    found.max_ulp = int(counts[:, 5].max()) if everything and ulp_dtype(a, b) is not None else None
    found.differing = int(counts[:, 2].sum()) if everything else None
    found.worst = _at(order, ordered_a.shape, _worst(ordered_a, ordered_b, rows, counts))
    found.first_bad = _at(order, ordered_a.shape, _first_bad(counts))
    return found


def _memory_order(a: Tensor, b: Tensor) -> list[int]:
    """The order of axes in which both lie in memory row by row, where there is one; else the axes as they are."""
    order = sorted(range(a.ndim), key=lambda axis: -a.stride(axis))
    lies_so = all(t.permute(order).is_contiguous() for t in (a, b))
    return order if lies_so and not (a.is_contiguous() and b.is_contiguous()) else list(range(a.ndim))


def _tables(a: Tensor, b: Tensor, everything: bool, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """(blocks, figures) float64 and (blocks, counts) int64."""
    code = machine.code()
    number = math.ceil(a.numel() / code.BLOCK)
    rows, counts = np.empty((number, len(code.FLOATS))), np.empty((number, len(code.COUNTS)), np.int64)
    each = min(_TASK // code.BLOCK, math.ceil(number / threads))
    tasks = [(first, min(first + each, number)) for first in range(0, number, each)]
    work = functools.partial(_task, code, a, b, everything, rows, counts)
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            work(task)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, tasks))
    return rows, counts


def _task(code, a: Tensor, b: Tensor, everything: bool, rows: np.ndarray, counts: np.ndarray, task: tuple[int, int]) -> None:
    """Fill the rows of some blocks."""
    coarse = ulp_dtype(a, b)
    native = torch.float64 if a.dtype in _WIDE or b.dtype in _WIDE else torch.float32
    room = [np.empty(code.BLOCK, np.float64 if native is torch.float64 else np.float32) for _ in range(2)]
    first, last = task
    put = [None if t.is_contiguous() else torch.empty(_ORDERED, dtype=_SAME_SIZE[t.element_size()]).numpy() for t in (a, b)]
    step = last - first if a.is_contiguous() and b.is_contiguous() else _ORDERED // code.BLOCK
    with mapped.read_ahead(a, b, first * code.BLOCK, last * code.BLOCK):
        for begin in range(first, last, step):
            end = min(begin + step, last)
            start, stop = begin * code.BLOCK, min(end * code.BLOCK, a.numel())
            x, y = _lying(a, start, stop, put[0]), _lying(b, start, stop, put[1])  # kept while their addresses are used
            code.run(_address(x), _kind(a), _meanings(a.dtype), _address(y), _kind(b), _meanings(b.dtype), machine.KINDS[native],
                     -1 if coarse is None else machine.KINDS[coarse], everything, stop - start, 0, end - begin, rows[begin:end], counts[begin:end],
                     *room)  # fmt: skip


def _lying(tensor: Tensor, start: int, stop: int, room: np.ndarray | None) -> Tensor | np.ndarray:
    """Some elements in row-major order, where they are or put in order in `room`. By numpy: torch would do it in threads of its own."""
    if room is None:
        return flat_part(tensor, start, stop)
    filled = 0
    for piece in pieces(tensor.view(_SAME_SIZE[tensor.element_size()]).numpy(), start, stop):
        _put_in_order(piece, room[filled : filled + piece.size].reshape(piece.shape))
        filled += piece.size
    return room


def _address(values: Tensor | np.ndarray) -> int:
    return values.data_ptr() if isinstance(values, Tensor) else values.ctypes.data


def _put_in_order(piece: np.ndarray, out: np.ndarray) -> None:
    """Where the last axis is not the nearest in memory, a few columns at a time: each of them is another page."""
    if piece.ndim < 2 or piece.strides[-1] <= min(piece.strides):
        np.copyto(out, piece)
        return
    for first in range(0, piece.shape[-1], _COLUMNS):
        np.copyto(out[..., first : first + _COLUMNS], piece[..., first : first + _COLUMNS])


def _kind(tensor: Tensor) -> int:
    return machine.KINDS.get(tensor.dtype, machine.BYTE)


@functools.cache
def _meanings(dtype: torch.dtype) -> np.ndarray:
    """What each byte means in a type of one byte."""
    every = torch.arange(256, dtype=torch.uint8)
    return every.view(dtype).to(torch.float32).numpy() if dtype in machine.ONE_BYTE else np.zeros(256, np.float32)


def _summed(rows: np.ndarray, counts: np.ndarray) -> Totals:
    """All blocks together; numpy adds pairwise."""
    with np.errstate(all="ignore"):  # what overflows is said by the figures
        mean_a, mean_b, saa, sbb, sab, distance, abs_sum, max_abs, rel_sum, max_rel, low, high = (np.ascontiguousarray(c) for c in rows.T)
        n = counts[:, 0].astype(np.float64)
        total = max(n.sum(), 1.0)
        apart_a, apart_b = mean_a - (n * mean_a).sum() / total, mean_b - (n * mean_b).sum() / total
        nonfinite_a, nonfinite_b = int(counts[:, 3].sum()), int(counts[:, 4].sum())
        return Totals(
            equal=not counts[:, 2].any(), count=int(counts[:, 0].sum()), nonfinite_a=nonfinite_a, nonfinite_b=nonfinite_b,
            max_abs=float(max_abs.max()), abs_sum=float(abs_sum.sum()), distance=float(distance.sum()),
            norm_a=float((saa + n * mean_a**2).sum()), norm_b=float((sbb + n * mean_b**2).sum()),
            dot=float((sab + n * mean_a * mean_b).sum()),
            var_a=float((saa + n * apart_a**2).sum()), var_b=float((sbb + n * apart_b**2).sum()),
            covar=float((sab + n * apart_a * apart_b).sum()), nonzero=int(counts[:, 1].sum()), rel_sum=float(rel_sum.sum()),
            max_rel=float(max_rel.max()), low=float(low.min()), high=float(high.max()))  # fmt: skip


def _worst(a: Tensor, b: Tensor, rows: np.ndarray, counts: np.ndarray) -> int | None:
    """The flat place of the largest |a - b|: the first in the first block that has it."""
    if not counts[:, 0].any():
        return None
    block = int(np.where(counts[:, 0] > 0, rows[:, 7], -1.0).argmax())
    start = block * machine.code().BLOCK
    stop = min(start + machine.code().BLOCK, a.numel())
    apart = (flat_part(a, start, stop).to(torch.float64) - flat_part(b, start, stop).to(torch.float64)).abs()
    return start + int(torch.where(apart.isfinite(), apart, -1.0).argmax())


def _first_bad(counts: np.ndarray) -> int | None:
    bad = np.flatnonzero(counts[:, 6] >= 0)
    return int(bad[0]) * machine.code().BLOCK + int(counts[bad[0], 6]) if len(bad) else None


def _at(order: list[int], shape, flat: int | None) -> int | None:
    """A flat place among permuted axes as that among the axes as they were."""
    if flat is None or order == sorted(order):
        return flat
    index = np.unravel_index(flat, shape)
    back = np.argsort(order)
    return int(np.ravel_multi_index([index[i] for i in back], [shape[i] for i in back]))
