"""One pass over two tensors on the CPU, block by block, compiled by numba. Imported only where large tensors are compared.

A block of BLOCK elements gives one row of two tables, whichever thread computes it, so that figures have the same bits at every
number of threads. Within a block STEP elements at a time are decoded and looked at while the processor fetches those AHEAD of
them: without that the loops wait for memory half of the time. Sums are float64, around a mean of the block's own where that is not
small (Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983): nothing is lost where it dwarfs the deviation.
"""

import pathlib
import zlib

import numpy as np
from numba import njit

from whydiff.measure.onepass import kernels
from whydiff.measure.onepass.kernels import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    apart16,
    apart_wide,
    decode,
    held,
    order16,
    order32,
    order64,
    prefetch,
    relative32,
    relative64,
    sums,
    sums_around_zero,
)

BLOCK = 8192
STEP = 256
AHEAD = 2048
LINE = 64  # bytes that the processor fetches at a time
GUESS = 32  # elements whose mean, unless it is small, the sums of a block are taken around
FLOATS = ("mean_a", "mean_b", "saa", "sbb", "sab", "distance", "abs_sum", "max_abs", "rel_sum", "max_rel", "low", "high")
COUNTS = ("count", "nonzero", "differing", "nonfinite_a", "nonfinite_b", "max_ulp", "first_bad")


@njit(nogil=True, error_model="numpy")
def _block(a, kind_a, table_a, b, kind_b, table_b, size, ulp, everything, row, count, store_x, store_y, native, narrow_x, narrow_y):
    """A block that is finite, in the type of `store_x`, which is `native`. False where it must be done carefully."""
    wide_a, wide_b = width(kind_a), width(kind_b)
    guess = min(GUESS, size)
    decode(a, kind_a, table_a, store_x[:guess])
    decode(b, kind_b, table_b, store_y[:guess])
    center_a = center_b = size_a = size_b = 0.0
    for i in range(guess):
        u, v = np.float64(store_x[i]), np.float64(store_y[i])
        center_a, center_b, size_a, size_b = center_a + u / guess, center_b + v / guess, size_a + u * u / guess, size_b + v * v / guess
    if not np.isfinite(size_a + size_b):
        return False
    # A mean of no more than the deviation costs a sum around zero one binary digit; what is left is checked at the end.
    around_zero = center_a * center_a <= 0.5 * size_a and center_b * center_b <= 0.5 * size_b
    if around_zero:
        center_a = center_b = 0.0
    sa = sb = saa = sbb = sab = distance = total = largest = 0.0
    for j in range(0, size, STEP):
        m = min(STEP, size - j)
        for address in range(a + (j + AHEAD) * wide_a, a + (j + AHEAD + STEP) * wide_a, LINE):
            prefetch(address)
        for address in range(b + (j + AHEAD) * wide_b, b + (j + AHEAD + STEP) * wide_b, LINE):
            prefetch(address)
        x = held(a + j * wide_a if kind_a == native else store_x.ctypes.data, m, store_x.dtype)
        y = held(b + j * wide_b if kind_b == native else store_y.ctypes.data, m, store_y.dtype)
        if kind_a != native:
            decode(a + j * wide_a, kind_a, table_a, x)
        if kind_b != native:
            decode(b + j * wide_b, kind_b, table_b, y)
        part = sums_around_zero(x, y, 0.0, 0.0) if around_zero else sums(x, y, center_a, center_b)
        sa, sb, saa, sbb, sab = sa + part[0], sb + part[1], saa + part[2], sbb + part[3], sab + part[4]
        distance, total, largest = distance + part[5], total + part[6], max(largest, part[7])
        if everything and np.isfinite(saa + sbb):
            _rest(x, y, a + j * wide_a, b + j * wide_b, kind_a if kind_a == kind_b else -1, ulp, native, row, count, narrow_x, narrow_y)
    count[0] = size
    if not everything:
        count[2] = largest > 0  # at least one
    row[0], row[1] = center_a + sa / size, center_b + sb / size
    row[2], row[3], row[4] = saa - sa * sa / size, sbb - sb * sb / size, sab - sa * sb / size
    row[5], row[6], row[7] = distance, total, largest
    # A guess far from the mean costs digits; a sum that is not finite holds a value that is not.
    return np.isfinite(saa + sbb + distance + row[8]) and row[2] >= 1e-4 * saa and row[3] >= 1e-4 * sbb


@njit(nogil=True, error_model="numpy")
def _rest(x, y, a, b, stored, ulp, native, row, count, narrow_x, narrow_y):
    """The figures that do not decide, of a few finite elements; `stored`: the kind of both where they lie, -1 where it is not one."""
    if stored in (BFLOAT16, FLOAT16):
        total, largest, nonzero = relative32(x, y)
        apart, low, high, differing = order16(held(a, x.size, np.int16), held(b, x.size, np.int16), stored)
    elif native == FLOAT32:
        total, largest, nonzero = relative32(x, y)
        bits_x, bits_y = x.view(np.int32), y.view(np.int32)
        apart, low, high, differing = order32(bits_x, bits_y)
        if ulp != FLOAT32 and ulp >= 0:
            apart = apart16(bits_x, bits_y, ulp)
    else:
        total, largest, nonzero = relative64(x, y)
        apart, low, high, differing = order64(x.view(np.int64), y.view(np.int64))
        if ulp != FLOAT64 and ulp >= 0:
            apart = apart_wide(x, y, narrow_x, narrow_y, ulp)
    row[8] += total
    row[9] = max(row[9], largest)
    row[10], row[11] = min(row[10], low), max(row[11], high)
    count[1] += nonzero
    count[2] += differing
    count[5] = max(count[5], apart)


@njit(nogil=True, error_model="numpy")
def width(kind):
    """Bytes of an element."""
    return (4, 8, 2, 2, 1, 2, 4)[kind]


@njit(nogil=True, error_model="numpy")
def _carefully(x, y, ulp, row, count, narrow_x, narrow_y):
    """A block element by element in float64, which it overwrites: what is not finite is counted and left out."""
    row[:] = 0.0
    count[:] = 0
    row[10], row[11], count[6] = np.inf, -np.inf, -1
    n = 0
    for i in range(x.size):
        u, v = x[i], y[i]
        fine_u, fine_v = np.isfinite(u), np.isfinite(v)
        same = u == v or (np.isnan(u) and np.isnan(v))
        count[2] += not same
        count[3] += not fine_u
        count[4] += not fine_v
        if fine_u and fine_v:
            x[n], y[n] = u, v
            n += 1
        elif not same and count[6] < 0:
            count[6] = i
    count[0] = n
    for i in range(n):
        row[0] += x[i] / n
        row[1] += y[i] / n
    for i in range(n):
        u, v, d, size = x[i] - row[0], y[i] - row[1], abs(x[i] - y[i]), abs(x[i])
        row[2] += u * u
        row[3] += v * v
        row[4] += u * v
        row[5] += d * d
        row[6] += d
        row[7] = max(row[7], d)
        row[10], row[11] = min(row[10], x[i]), max(row[11], x[i])
        if size > 0:
            count[1] += 1
            row[8] += d / size
            row[9] = max(row[9], d / size)
    if ulp >= 0 and n:
        count[5] = apart_wide(x[:n], y[:n], narrow_x, narrow_y, ulp)


def _kept(sources):
    """`run`, its machine code kept beside this file, or in the user's cache where that cannot be written, or nowhere."""

    def run(a, kind_a, table_a, b, kind_b, table_b, native, ulp, everything, n, first, last, rows, counts, store_x, store_y):
        """Fill the rows of blocks `first` to `last` of two tensors of n elements, given by the addresses of their bytes.

        `store_x`, `store_y`: room for a block each, of the type that is computed in: float32 where it holds all values of both
        sides exactly, else float64; `native` is its kind. `ulp`: the kind in whose units distance is counted, -1 for none.
        `everything`: not the deciding figures alone.
        """
        if sources == 0:  # a name of this function's own is part of what numba keeps its code by
            return
        narrow_x, narrow_y = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        wide_x, wide_y = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.float64)
        for k in range(first, last):
            size, row, count = min(BLOCK, n - k * BLOCK), rows[k], counts[k]
            row[:], count[:] = 0.0, 0
            row[10], row[11], count[6] = np.inf, -np.inf, -1
            at_a, at_b = a + k * BLOCK * width(kind_a), b + k * BLOCK * width(kind_b)
            if not _block(at_a, kind_a, table_a, at_b, kind_b, table_b, size, ulp, everything, row, count, store_x, store_y, native,
                          narrow_x, narrow_y):
                x, y = wide_x[:size], wide_y[:size]
                decode(at_a, kind_a, table_a, x)
                decode(at_b, kind_b, table_b, y)
                _carefully(x, y, ulp if everything else -1, row, count, narrow_x, narrow_y)

    try:
        return njit(nogil=True, error_model="numpy", cache=True)(run)
    except RuntimeError:  # no folder that can be written
        return njit(nogil=True, error_model="numpy")(run)


run = _kept(zlib.crc32(b"".join(pathlib.Path(file).read_bytes() for file in (kernels.__file__, __file__))) or 1)
