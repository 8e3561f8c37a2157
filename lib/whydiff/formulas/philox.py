"""What torch.randn draws on a CUDA device, computed on the CPU.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") and Box-Muller, assigned
to elements as pytorch aten/src/ATen/native/cuda/DistributionTemplates.h does (calc_execution_policy,
distribution_elementwise_grid_stride_kernel): element e belongs to thread e mod T, T = 256 · min(ceil(n / 256),
max_threads / 256), and its k-th round, k = e div T, takes normal number k mod 4 of counter (offset / 4 + k div 4, thread).

A draw of up to max_threads elements is the same on every GPU; a larger one depends on the number of multiprocessors.
Checked against published CUDA outputs (seeds 0 and 42). Not checked on a GPU: more than one round, float64, float16.
CUDA takes sine and cosine from hardware approximations, so agreement is to about 1e-6, not bit for bit.
"""

import math

import numpy as np
import torch
from torch import Tensor

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
PIECE = 1 << 16  # elements at a time, few enough to stay in the cache
# multiprocessors · resident threads of each, for draws that exceed the smallest
THREADS = {"H100, H200": 132 * 2048, "A100": 108 * 2048, "L40S": 142 * 1536, "RTX 4090": 128 * 1536,
           "RTX 3090": 82 * 1536, "L4": 58 * 1536, "V100": 80 * 2048, "T4": 40 * 1024}
# |sin|, |cos| of CUDA's fast intrinsics err by 2^-21 within [-pi, pi] and twice that up to 2 pi; times a radius below 7.
TOLERANCE = 7 * 2.0**-20


def philox(counter: tuple[np.ndarray, np.ndarray], seed: int) -> np.ndarray:
    """(4, n) random words in [0, 2³²) as uint64, for counters (round, thread), each (n,) non-negative integers."""
    # numpy, because torch has no unsigned 64-bit product of two 32-bit words
    k, thread = (np.asarray(part).astype(np.uint64) for part in counter)
    c = [k & LOW, k >> HALF, thread, np.zeros_like(thread)]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)]
    for _ in range(10):
        a, b = c[0] * MULTIPLIERS[0], c[2] * MULTIPLIERS[1]
        c = [(b >> HALF) ^ c[1] ^ key[0], b & LOW, (a >> HALF) ^ c[3] ^ key[1], a & LOW]
        key = [(part + step) & LOW for part, step in zip(key, KEY_STEPS, strict=True)]
    return np.stack(c)


def cuda_randn(shape, seed: int, offset: int = 0, max_threads: int = 132 * 2048, dtype: torch.dtype = torch.float32,
               elements: Tensor | None = None) -> Tensor:
    """torch.randn(shape, device="cuda") after manual_seed(seed), as a CPU tensor; float16 and bfloat16 are rounded
    float32 draws. ``offset``: what earlier draws moved the generator by (`offset_after`). ``elements``: only
    these of the same draw, (k,) flat indices."""
    n = math.prod(shape)
    wanted = np.arange(n) if elements is None else elements.numpy()
    threads = 256 * min(-(-n // 256), max_threads // 256)
    out = torch.empty(len(wanted), dtype=dtype)
    normals, per_call = (_normals64, 2) if dtype == torch.float64 else (_normals32, 4)
    for start in range(0, len(wanted), PIECE):
        element = wanted[start : start + PIECE]
        k = element // threads
        words = philox((offset // 4 + k // per_call, element % threads), seed)
        out[start : start + PIECE] = torch.from_numpy(normals(words, k % per_call)).to(dtype)
    return out if elements is not None else out.reshape(tuple(shape))


def offset_after(n: int, max_threads: int = 132 * 2048, dtype: torch.dtype = torch.float32) -> int:
    """How far one draw of n elements moves the generator's offset: 4 (1 + (n - 1) div (unroll · T)), unroll 4, or 2 for
    float64."""
    threads = 256 * min(-(-n // 256), max_threads // 256)
    return 4 * (1 + (n - 1) // (threads * (2 if dtype == torch.float64 else 4)))


def _normals32(words: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Box-Muller on words (0, 1) or (2, 3): curand_normal4, part 0 to 3. sin comes first, then cos."""
    x, y = np.where(part < 2, words[0], words[2]), np.where(part < 2, words[1], words[3])
    radius = np.sqrt(-2 * np.log(x * 2.0**-32 + 2.0**-33))
    angle = (y * 2.0**-32 + 2.0**-33) * (2 * math.pi)
    return (radius * np.where(part % 2 == 0, np.sin(angle), np.cos(angle))).astype(np.float32)


def _normals64(words: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Box-Muller on 53-bit numbers from two words each: curand_normal2_double, part 0 or 1."""
    u = (words[0] ^ (words[1] << np.uint64(21))) * 2.0**-53 + 2.0**-54
    v = (words[2] ^ (words[3] << np.uint64(21))) * 2.0**-52 + 2.0**-53
    return np.sqrt(-2 * np.log(u)) * np.where(part == 0, np.sin(v * math.pi), np.cos(v * math.pi))
