"""What a tensor holds, in a few numbers: hashes of its values that do not care for their order, and a sample of them.

A hash is a sum over the mixed bits of the values, so that a row, a column or a whole has the same hash in every order. One
pass over a tensor gives all of them; no copy of it is kept, and no more than a piece of it is made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import torch

from whydiff.measure.pairing.tree import parent
from whydiff.measure.tensors import UNIT_ROUNDING

Tree = torch.nn.Module | Mapping[str, object]  # a module, or components by name (what is no module among them is passed over)
PIECE = 1 << 21  # elements hashed at a time
SAMPLE = 2048  # values that enter a correlation
_GOLDEN = 0.6180339887498949  # multiples of it fill the unit interval evenly and are in step with no axis
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclasses.dataclass(frozen=True)
class Digest:
    """Hashes of one tensor (n, ...) read as n rows: of the whole, of each row and of each column."""

    total: int
    rows: np.ndarray = dataclasses.field(repr=False)  # (n,) int64
    columns: np.ndarray = dataclasses.field(repr=False)  # (elements / n,) int64


class Held:
    """One parameter or buffer of a module tree. `made`: a buffer that code makes and no checkpoint holds."""

    def __init__(self, name: str, tensor: torch.Tensor, made: bool = False):
        self.name, self.tensor, self.made = name, tensor.detach(), made
        self.shape, self.count = tuple(tensor.shape), tensor.numel()
        self._digests: dict[torch.dtype, Digest] = {}

    def __repr__(self):
        return f"Held({self.name!r}, {list(self.shape)})"

    @functools.cached_property
    def module(self) -> str:
        return parent(self.name)

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2].rpartition("/")[2]

    @property
    def readable(self) -> bool:
        """False for tensors whose values are elsewhere (offloaded) or are no plain numbers."""
        return not (self.tensor.is_meta or self.tensor.is_quantized) and self.tensor.layout is torch.strided

    @property
    def height(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def width(self) -> int:
        return self.count // self.height if self.height else 0

    @property
    def matrix(self) -> torch.Tensor:
        """(n, elements / n), a view wherever torch can make one."""
        return self.tensor.reshape(self.height, -1)

    def digest(self, dtype: torch.dtype) -> Digest:
        """Hashes of the values rounded to `dtype`; made once."""
        if dtype not in self._digests:
            self._digests[dtype] = _digest(self.matrix, dtype)
        return self._digests[dtype]

    @functools.cached_property
    def informative(self) -> bool:
        """Do the values tell this tensor from others? Zeros, ones and other constants do not."""
        values = sample(self.tensor, 64)
        return torch.unique(values).numel() >= (3 if values.element_size() > 2 else 6)


def held(tree: Tree) -> dict[str, Held]:
    """Every parameter and buffer of a module, or of named ones (`name/dotted`); tied tensors once, as torch lists them."""
    found = {}
    for prefix, module in roots(tree).items():
        stored = set(module.state_dict(keep_vars=True))
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            full = f"{prefix}/{name}" if prefix else name
            found[full] = Held(full, tensor, name not in stored)
    return found


def roots(tree: Tree) -> dict[str, torch.nn.Module]:
    """The modules of a tree by component; a single module has the empty name."""
    if isinstance(tree, torch.nn.Module):
        return {"": tree}
    return {name: part for name, part in tree.items() if isinstance(part, torch.nn.Module)}


def common_dtype(a: torch.dtype, b: torch.dtype) -> torch.dtype | None:
    """The coarser of two floating dtypes, in which a cast of the finer one equals it; None where nothing can be equal."""
    if a == b:
        return a
    if a in UNIT_ROUNDING and b in UNIT_ROUNDING:
        return max(a, b, key=UNIT_ROUNDING.__getitem__)
    return None


def _digest(matrix: torch.Tensor, dtype: torch.dtype) -> Digest:
    rows, columns = [], np.zeros(matrix.shape[1], dtype=np.int64)
    for start in range(0, matrix.shape[0], max(1, PIECE // max(1, matrix.shape[1]))):
        mixed = _mixed(matrix[start : start + max(1, PIECE // max(1, matrix.shape[1]))], dtype)
        rows.append(mixed.sum(1).cpu().numpy())
        columns += mixed.sum(0).cpu().numpy()
    rows = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    return Digest(int(rows.sum()), rows, columns)


def _mixed(piece: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bits of the values as int64, spread so that sums of different values do not meet (wrapping multiplication)."""
    if piece.is_floating_point():
        piece = piece.to(dtype)
        if piece.element_size() > 1:
            piece = piece + 0.0  # -0 becomes 0
    if piece.is_complex():
        piece = torch.view_as_real(piece).flatten(1)
    if piece.is_floating_point():
        piece = piece.contiguous().view(_BITS[piece.element_size()])
    mixed = piece.to(torch.int64).mul_(-7046029254386353131).add_(1442695040888963407)
    return mixed.bitwise_xor_(mixed >> 32).mul_(-4417276706812531889)


def positions(count: int, most: int = SAMPLE) -> torch.Tensor:
    """Up to `most` flat places of a tensor of `count` elements, in step with no axis; all of them if there are fewer."""
    return _positions(count, min(count, most))


@functools.lru_cache(maxsize=512)
def _positions(count: int, most: int) -> torch.Tensor:
    if most == count:
        return torch.arange(count)
    return (((torch.arange(most, dtype=torch.float64) + 0.5) * _GOLDEN) % 1 * count).long().clamp_max(count - 1)


def sample(tensor: torch.Tensor, most: int = SAMPLE) -> torch.Tensor:
    """Values at `positions` of the tensor read row by row, whatever its strides, without a copy of it."""
    if tensor.numel() <= most:
        return tensor.reshape(-1)
    at = positions(tensor.numel(), most).to(tensor.device)
    if tensor.is_contiguous():
        return tensor.reshape(-1)[at]
    return tensor[torch.unravel_index(at, tensor.shape)]


def normed(values: torch.Tensor) -> np.ndarray:
    """(n, k) values -> centred rows of norm 1, float64; constant rows become zero, which correlates with nothing."""
    values = values.double().nan_to_num(0.0, 0.0, 0.0)
    size = values.norm(dim=1, keepdim=True)
    values = values - values.mean(1, keepdim=True)
    norm = values.norm(dim=1, keepdim=True)
    return torch.where(norm > 1e-9 * size, values / norm.clamp_min(1e-300), torch.zeros_like(values)).cpu().numpy()
