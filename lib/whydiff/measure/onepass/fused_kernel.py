"""The kernel of `fused`: every program reads a stretch of both tensors once. Imported only where tensors are on a CUDA device."""

import triton
import triton.language as tl

TILE = 1024  # elements that are looked at together
DEEP = 8  # tiles to a sum in float32
STRETCH = TILE * DEEP
COLUMNS = ("count", "bad_a", "bad_b", "sa", "sb", "saa", "sbb", "sab", "distance", "abs_sum", "max_abs", "max_a", "max_b")


@triton.jit
def one_pass(a, b, centers, out, n, each, TILE: tl.constexpr, DEEP: tl.constexpr):
    """One row of `out` for each program; sums around `centers`, over the elements that are finite on both sides."""
    program = tl.program_id(0).to(tl.int64)
    begin = program * each
    end = tl.minimum(begin + each, n)
    center_a, center_b = tl.load(centers), tl.load(centers + 1)
    lane = tl.arange(0, TILE)
    nothing = tl.zeros([TILE], tl.float64)
    sa, sb, saa, sbb, sab, distance, total = nothing, nothing, nothing, nothing, nothing, nothing, nothing
    count, bad_a, bad_b = tl.zeros([TILE], tl.int32), tl.zeros([TILE], tl.int32), tl.zeros([TILE], tl.int32)
    max_abs, max_a, max_b = tl.zeros([TILE], tl.float32), tl.zeros([TILE], tl.float32), tl.zeros([TILE], tl.float32)
    for start in range(begin, end, TILE * DEEP):
        zero = tl.zeros([TILE], tl.float32)
        u1, v1, u2, v2, uv, d2, d1 = zero, zero, zero, zero, zero, zero, zero
        for k in tl.static_range(DEEP):
            at = start + k * TILE + lane
            here = at < end
            x = tl.load(a + at, mask=here, other=0.0).to(tl.float32)
            y = tl.load(b + at, mask=here, other=0.0).to(tl.float32)
            finite_x, finite_y = tl.abs(x) < float("inf"), tl.abs(y) < float("inf")
            fine = here & finite_x & finite_y
            d = tl.where(fine, tl.abs(x - y), 0.0)
            u, v = tl.where(fine, x - center_a, 0.0), tl.where(fine, y - center_b, 0.0)
            u1 += u
            v1 += v
            u2 += u * u
            v2 += v * v
            uv += u * v
            d2 += d * d
            d1 += d
            count += fine.to(tl.int32)
            bad_a += (here & (finite_x == 0)).to(tl.int32)
            bad_b += (here & (finite_y == 0)).to(tl.int32)
            max_abs = tl.maximum(max_abs, d)
            max_a = tl.maximum(max_a, tl.where(fine, tl.abs(x), 0.0))
            max_b = tl.maximum(max_b, tl.where(fine, tl.abs(y), 0.0))
        sa += u1.to(tl.float64)
        sb += v1.to(tl.float64)
        saa += u2.to(tl.float64)
        sbb += v2.to(tl.float64)
        sab += uv.to(tl.float64)
        distance += d2.to(tl.float64)
        total += d1.to(tl.float64)
    row = out + program * 13
    tl.store(row + 0, tl.sum(count).to(tl.float64))
    tl.store(row + 1, tl.sum(bad_a).to(tl.float64))
    tl.store(row + 2, tl.sum(bad_b).to(tl.float64))
    tl.store(row + 3, tl.sum(sa))
    tl.store(row + 4, tl.sum(sb))
    tl.store(row + 5, tl.sum(saa))
    tl.store(row + 6, tl.sum(sbb))
    tl.store(row + 7, tl.sum(sab))
    tl.store(row + 8, tl.sum(distance))
    tl.store(row + 9, tl.sum(total))
    tl.store(row + 10, tl.max(max_abs).to(tl.float64))
    tl.store(row + 11, tl.max(max_a).to(tl.float64))
    tl.store(row + 12, tl.max(max_b).to(tl.float64))
