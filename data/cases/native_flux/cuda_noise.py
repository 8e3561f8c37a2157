"""What torch.randn draws on a CUDA device, computed without one.

torch fills a CUDA tensor with Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3") and the Box-Muller transform. With T threads, element e belongs to thread e mod T; its turn k = e div T
takes normal number k mod 4 from counter (offset / 4 + k div 4, 0, thread, 0), keyed by the seed:
pytorch aten/src/ATen/native/cuda/DistributionTemplates.h, calc_execution_policy and
distribution_elementwise_grid_stride_kernel. A draw of up to `MAX_THREADS` elements is the same on every GPU.

Agrees with published CUDA draws to about 1e-7 (seed 0 begins -0.92466259, -0.42534415; seed 42 begins 0.1940,
2.1614), not bit for bit: the device has its own sine and logarithm. Draws longer than the number of threads
(k > 0) were not checked on a GPU.
"""

import math

import numpy as np
import torch
from torch import Tensor

BLOCK = 256
MAX_THREADS = 132 * 2048  # an H100: multiprocessors * resident threads
ROUND_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_INCREMENTS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
LOW_WORD, HIGH_WORD = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: np.ndarray, seed: int) -> np.ndarray:
    """Counters (4, n) and a 64-bit seed -> (4, n) random words; all words are below 2**32, in uint64."""
    c0, c1, c2, c3 = counter.astype(np.uint64)
    key0, key1 = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32 & 0xFFFFFFFF)
    for _ in range(10):
        product0, product1 = c0 * ROUND_MULTIPLIERS[0], c2 * ROUND_MULTIPLIERS[1]
        c0, c1, c2, c3 = ((product1 >> HIGH_WORD) ^ c1 ^ key0, product1 & LOW_WORD,
                          (product0 >> HIGH_WORD) ^ c3 ^ key1, product0 & LOW_WORD)
        key0, key1 = (key0 + KEY_INCREMENTS[0]) & LOW_WORD, (key1 + KEY_INCREMENTS[1]) & LOW_WORD
    return np.stack([c0, c1, c2, c3])


def box_muller(words: np.ndarray) -> np.ndarray:
    """(4, n) words -> (4, n) normals: the first two words make the first two, the last two the others."""
    uniform = words * 2.0**-32 + 2.0**-33
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * math.pi * uniform[1::2]
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1).reshape(words.shape)


def cuda_randn(shape: tuple[int, ...], seed: int, offset: int = 0, max_threads: int = MAX_THREADS) -> Tensor:
    """float32 normals as torch.randn(shape, device="cuda") after torch.cuda.manual_seed(seed), on the CPU.

    `offset` is the generator's; each draw moves it on by 4 * (1 + (n - 1) div (4 T)).
    """
    n = math.prod(shape)
    threads = BLOCK * min(-(-n // BLOCK), max_threads // BLOCK)
    turns = -(-n // threads)
    thread = np.arange(threads)
    zeros = np.zeros_like(thread)
    rows = []
    for call in range(-(-turns // 4)):
        rows.append(box_muller(philox(np.stack([zeros + offset // 4 + call, zeros, thread, zeros]), seed)))
    normals = np.concatenate(rows).reshape(-1)[:n]
    return torch.from_numpy(normals.astype(np.float32)).reshape(shape)
