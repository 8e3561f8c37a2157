"""The inner loops of one pass over two tensors on the CPU, compiled by numba: decoding, sums, ratios, the order of numbers.

Each is a plain loop over a few hundred elements that a compiler turns into vector instructions. Largest values are taken among
the bits of positive numbers, which are ordered as integers: the same of floats does not vectorise.
"""

import numpy as np
from llvmlite import binding, ir
from numba import carray, config, njit, types
from numba.extending import intrinsic

# How values are stored. Of BYTE, a table of 256 says what each means: bool, integers and floats of 8 bit.
FLOAT32, FLOAT64, BFLOAT16, FLOAT16, BYTE, INT16, INT32 = range(7)

# No flag says that there are no NaN: they must show in the sums.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_SIGN = np.int32(-(2**31))
_SIGN16, _SIGN64 = np.int16(-(2**15)), np.int64(-(2**63))
_ZERO, _ZERO16 = np.int32(0), np.int16(0)
_HALF_RANGE = np.int64(2**62 - 1)  # beyond it the distance of two float64 of unlike sign does not fit int64


@intrinsic
def _pointer(_context, _address):
    def emit(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.PointerType())

    return types.voidptr(types.intp), emit


@intrinsic
def prefetch(_context, _address):
    """Ask for the cache line at an address; one beyond the tensor does no harm."""

    def emit(context, builder, _signature, arguments):
        number, pointer = ir.IntType(32), ir.PointerType()
        name = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [pointer], name)
        builder.call(ask, [builder.inttoptr(arguments[0], pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.intp), emit


@njit(nogil=True, error_model="numpy")
def held(address, size, dtype):
    """The numbers at an address. Nobody counts references to them, which would cost more than a few hundred of them."""
    return carray(_pointer(address), size, dtype)


@njit(nogil=True, error_model="numpy")
def _cast(values, out):
    for i in range(out.size):
        out[i] = values[i]


def _converts_halves() -> bool:
    """Has the processor an instruction for float16, and may numba use it? Else LLVM asks for a function that may not be there."""
    try:
        return not (config.CPU_NAME or config.CPU_FEATURES) and bool(binding.get_host_cpu_features().get("f16c"))
    except RuntimeError:  # a processor that LLVM does not know
        return False


@njit(nogil=True, error_model="numpy")
def _from_bfloat16(bits):
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@intrinsic
def _half_by_instruction(_context, _bits):
    def emit(_context, builder, _signature, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), emit


@njit(nogil=True, error_model="numpy")
def half_by_arithmetic(bits):
    """The exponent is put right by a product, which also makes normal numbers of subnormal ones."""
    wide = np.uint32(bits)
    size = np.uint32((wide & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32) * np.float32(2.0**112)
    plain = np.float32(size).view(np.uint32)
    plain |= np.uint32(0x7F800000) if wide & np.uint32(0x7C00) == np.uint32(0x7C00) else np.uint32(0)
    return np.uint32(plain | ((wide & np.uint32(0x8000)) << np.uint32(16))).view(np.float32)


_from_float16 = _half_by_instruction if _converts_halves() else half_by_arithmetic


@njit(nogil=True, error_model="numpy")
def _from_16(values, kind, out):
    if kind == BFLOAT16:
        for i in range(out.size):
            out[i] = _from_bfloat16(values[i])
    else:
        for i in range(out.size):
            out[i] = _from_float16(values[i])


@njit(nogil=True, error_model="numpy")
def _from_table(values, table, out):
    for i in range(out.size):
        out[i] = table[values[i]]


@njit(nogil=True, error_model="numpy")
def decode(address, kind, table, out):
    """The numbers from an address on into `out`, float32 or float64."""
    n = out.size
    if kind in (BFLOAT16, FLOAT16):
        _from_16(held(address, n, np.uint16), kind, out)
    elif kind == BYTE:
        _from_table(held(address, n, np.uint8), table, out)
    elif kind == FLOAT32:
        _cast(held(address, n, np.float32), out)
    elif kind == FLOAT64:
        _cast(held(address, n, np.float64), out)
    elif kind == INT16:
        _cast(held(address, n, np.int16), out)
    else:
        _cast(held(address, n, np.int32), out)


def _summing(centred):
    @njit(nogil=True, error_model="numpy", fastmath=_FAST)
    def run(x, y, center_a, center_b):
        sa = sb = saa = sbb = sab = distance = total = 0.0
        largest = np.int64(0)
        for i in range(x.size):
            u, v = np.float64(x[i]), np.float64(y[i])
            d = abs(u - v)
            distance += d * d
            total += d
            largest = max(largest, np.float64(d).view(np.int64))  # bits of positive numbers are ordered as integers
            if centred:
                u -= center_a
                v -= center_b
            sa += u
            sb += v
            saa += u * u
            sbb += v * v
            sab += u * v
        return sa, sb, saa, sbb, sab, distance, total, np.int64(largest).view(np.float64)

    return run


sums = _summing(True)
sums_around_zero = _summing(False)  # a seventh faster


@njit(nogil=True, error_model="numpy", fastmath=_FAST)
def relative32(x, y):
    """Sum and largest of |x - y| / |x|, and how many x are not 0. Two roundings of float32 each: 1.2e-7."""
    total, largest, nonzero = 0.0, np.int32(0), np.int32(0)
    for i in range(x.size):
        size = abs(x[i])
        ratio = np.float32(abs(x[i] - y[i]) / size) if size > 0 else np.float32(0)
        total += np.float64(ratio)
        largest = max(largest, np.float32(ratio).view(np.int32))
        nonzero += np.int32(size > 0)
    return total, np.float64(np.int32(largest).view(np.float32)), np.int64(nonzero)


@njit(nogil=True, error_model="numpy", fastmath=_FAST)
def relative64(x, y):
    total, largest, nonzero = 0.0, np.int64(0), np.int64(0)
    for i in range(x.size):
        size = abs(x[i])
        ratio = abs(x[i] - y[i]) / size if size > 0 else 0.0
        total += ratio
        largest = max(largest, np.float64(ratio).view(np.int64))
        nonzero += np.int64(size > 0)
    return total, np.int64(largest).view(np.float64), nonzero


@njit(nogil=True, error_model="numpy")
def order32(a, b):
    """Bits of finite float32: how far apart at most, the least and greatest of a, how many are not equal."""
    apart, least, most, differing = np.uint32(0), np.int32(2**31 - 1), _SIGN, np.uint32(0)
    for i in range(a.size):
        p, q = a[i], b[i]
        p = p if p >= _ZERO else np.int32(_SIGN - p)
        q = q if q >= _ZERO else np.int32(_SIGN - q)
        gap = np.uint32(np.uint32(p if p > q else q) - np.uint32(q if p > q else p))
        apart = gap if gap > apart else apart  # `max` would compute in 64 bits
        least = p if p < least else least
        most = p if p > most else most
        differing = np.uint32(differing + np.uint32(p != q))
    least = least if least >= 0 else np.int32(_SIGN - least)
    most = most if most >= 0 else np.int32(_SIGN - most)
    low, high = np.int32(least).view(np.float32), np.int32(most).view(np.float32)
    return np.int64(apart), np.float64(low), np.float64(high), np.int64(differing)


@njit(nogil=True, error_model="numpy")
def order16(a, b, kind):
    """The same of bfloat16 or float16 as they are stored, fewer than 65536."""
    apart, least, most, differing = np.uint16(0), np.int16(2**15 - 1), _SIGN16, np.uint16(0)
    for i in range(a.size):
        p, q = a[i], b[i]
        p = p if p >= _ZERO16 else np.int16(_SIGN16 - p)
        q = q if q >= _ZERO16 else np.int16(_SIGN16 - q)
        gap = np.uint16(np.uint16(p if p > q else q) - np.uint16(q if p > q else p))
        apart = gap if gap > apart else apart
        least = p if p < least else least
        most = p if p > most else most
        differing = np.uint16(differing + np.uint16(p != q))
    least = least if least >= 0 else np.int16(_SIGN16 - least)
    most = most if most >= 0 else np.int16(_SIGN16 - most)
    low, high = np.uint16(least), np.uint16(most)
    if kind == BFLOAT16:
        return np.int64(apart), np.float64(_from_bfloat16(low)), np.float64(_from_bfloat16(high)), np.int64(differing)
    return np.int64(apart), np.float64(_from_float16(low)), np.float64(_from_float16(high)), np.int64(differing)


@njit(nogil=True, error_model="numpy")
def order64(a, b):
    apart, least, most, differing = np.int64(0), np.int64(2**63 - 1), _SIGN64, np.int64(0)
    for i in range(a.size):
        p, q = a[i], b[i]
        p = p if p >= 0 else np.int64(_SIGN64 - p)
        q = q if q >= 0 else np.int64(_SIGN64 - q)
        if (p < 0) != (q < 0):
            gap = min(abs(p), _HALF_RANGE) + min(abs(q), _HALF_RANGE)
        else:
            gap = abs(p - q)
        apart = max(apart, gap)
        least, most = min(least, p), max(most, p)
        differing += np.int64(p != q)
    least = least if least >= 0 else np.int64(_SIGN64 - least)
    most = most if most >= 0 else np.int64(_SIGN64 - most)
    return apart, np.int64(least).view(np.float64), np.int64(most).view(np.float64), differing


@njit(nogil=True, error_model="numpy")
def rounded(bits, kind):
    """A float32 by its bits as an ordered integer of bfloat16 or float16, rounded to the nearest, ties to even."""
    size = np.uint32(bits) & np.uint32(0x7FFFFFFF)
    if kind == BFLOAT16:
        size = np.uint32(size + np.uint32(0x7FFF) + ((size >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    elif size >= np.uint32(0x47800000):
        size = np.uint32(0x7C00)
    elif size < np.uint32(0x38800000):  # subnormal: adding 1/2 shifts the digits to where float16 has them
        size = np.float32(np.uint32(size).view(np.float32) + np.float32(0.5)).view(np.uint32) - np.uint32(0x3F000000)
    else:
        size = np.uint32(size + np.uint32(0xC8000FFF) + ((size >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13)
    return -np.int32(size) if bits < 0 else np.int32(size)


@njit(nogil=True, error_model="numpy")
def apart16(a, b, kind):
    """How many numbers of bfloat16 or float16 lie between two lists of float32, by their bits, at most."""
    apart = np.int32(0)
    for i in range(a.size):
        apart = max(apart, np.int32(abs(rounded(a[i], kind) - rounded(b[i], kind))))
    return np.int64(apart)


@njit(nogil=True, error_model="numpy")
def apart_wide(x, y, narrow_x, narrow_y, kind):
    """The same of float64 values, in `kind`."""
    if kind == FLOAT64:
        return order64(x.view(np.int64), y.view(np.int64))[0]
    for i in range(x.size):
        narrow_x[i], narrow_y[i] = x[i], y[i]
    a, b = narrow_x[: x.size].view(np.int32), narrow_y[: x.size].view(np.int32)
    return order32(a, b)[0] if kind == FLOAT32 else apart16(a, b, kind)
