"""What two tensors that never meet can be told apart by: a sketch of each, a few kB, and the distance estimated from two sketches.

A count sketch (Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002): element i is added with sign
s(i) to number h(i) of SIZE, both hashed from i alone. It is linear, sketch(a) - sketch(b) = sketch(a - b), and its squared norm
has mean ‖x‖² and a variance of at most 2 ‖x‖⁴ / SIZE, so that a norm is estimated with a standard error of 1 / sqrt(2 SIZE).
Only torch is imported: the recorder in one file holds this module, too.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import math

import torch

SIZE = 2048
SMALL = 64  # numbers that are kept of what there is very much of
ERROR = 1.96 / math.sqrt(2 * SIZE)  # of an estimated distance, relative, in 95 of 100 cases: 3.1 %; see `error_of`
RESOLUTION = 2.0**-24  # of a distance relative to the tensor's norm: sketches are stored in float32
SAMPLE = 4096  # elements whose quantiles are kept
_SIZES = tuple(1 << power for power in range(5, 12))  # that a sketch may be folded to
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
VERSION = 1  # of the hashes and of what is stored: sketches of two versions are not compared
_BLOCK = 1 << 16  # elements that share a table of hashes
_PIECE = 1 << 14  # elements that are looked at together: they fit a processor's cache, and are too few for torch to wake other threads


def mixed(x: torch.Tensor) -> torch.Tensor:
    """splitmix64's finaliser (Steele, Lea and Flood 2014) of int64 numbers: the same bits on every machine and torch version."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@functools.lru_cache(maxsize=1)
def _table() -> tuple[torch.Tensor, torch.Tensor]:
    """(h(i), s(i)) of the elements of a block."""
    bits = mixed(torch.arange(1, _BLOCK + 1, dtype=torch.int64) * -7046029254386353131)
    return bits & (SIZE - 1), 1.0 - 2.0 * ((bits >> 40) & 1).to(torch.float64)


def sketch(values: torch.Tensor) -> torch.Tensor:
    """(n,) numbers -> (SIZE,) float64, linear."""
    total = torch.zeros(SIZE, dtype=torch.float64)
    for number, piece in enumerate(pieces(values)):
        total += _part(number, piece)
    return total


def pieces(values: torch.Tensor):
    """The values in float64, _PIECE at a time; what is not finite as it is."""
    for piece in values.split(_PIECE) if len(values) else ():
        yield piece.to(torch.float64)


def _part(number: int, piece: torch.Tensor) -> torch.Tensor:
    """What a piece adds. Blocks share a table; each is rolled by an amount of its own and has a sign of its own."""
    buckets, signs = _table()
    block, first = divmod(number * _PIECE, _BLOCK)
    part = torch.bincount(buckets[first : first + len(piece)], weights=piece * signs[first : first + len(piece)], minlength=SIZE)
    return _placed(block, part)


def _placed(block: int, part: torch.Tensor) -> torch.Tensor:
    return part.roll(block * 797) * _sign(block)  # 797 is odd: no two of the first SIZE blocks are rolled alike


@functools.lru_cache(maxsize=64)
def _sketch_of_ones(size: int) -> torch.Tensor:
    """Kept, as tensors of one size come again and again."""
    return sketch(torch.ones(1).expand(size))


@functools.lru_cache(maxsize=1 << 16)
def _sign(block: int) -> int:
    return 1 - 2 * (int(mixed(torch.tensor([block + 1], dtype=torch.int64))[0]) & 1)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of the finite values: how many, their mean and extremes (NaN where there are none)."""

    count: int
    mean: float
    low: float
    high: float


def moments(values: torch.Tensor) -> Moments:
    """One pass over (n,) numbers."""
    count, total, low, high = 0, 0.0, math.inf, -math.inf
    for piece in pieces(values):
        least, most = piece.aminmax()  # NaN and infinities show in one of them
        if not math.isfinite(float(least) + float(most)):
            piece = piece[piece.isfinite()]
            if not len(piece):
                continue
            least, most = piece.aminmax()
        count, total = count + len(piece), total + float(piece.sum())
        low, high = min(low, float(least)), max(high, float(most))
    return Moments(count, total / count, low, high) if count else Moments(0, math.nan, math.nan, math.nan)


def centred(values: torch.Tensor, of: Moments):
    """(the piece, less the mean, 0 where it is not finite) of each piece."""
    for piece in pieces(values):
        left = piece - of.mean if of.count else torch.zeros_like(piece)
        yield piece, left if of.count == len(values) else torch.where(piece.isfinite(), left, 0.0)


def deviation(values: torch.Tensor, of: Moments) -> float:
    """The norm of the finite values less their mean."""
    return math.sqrt(sum(float(left @ left) for _, left in centred(values, of)))


@dataclasses.dataclass(frozen=True)
class Sketch:
    """What is kept of a tensor. Values that are not finite count as 0; a complex number counts as two numbers.

    `values` is the sketch of the finite values less their `mean`, so that a constant offset is known exactly; `norm` is the
    norm of those. `unordered` is a hash that does not care for the order of the values.
    """

    values: torch.Tensor  # (SIZE,) float32, or folded: half as many, a quarter, ...
    count: int  # finite values
    mean: float
    norm: float
    quantiles: list[float]
    unordered: int

    @property
    def size(self) -> float:
        """‖x‖ of the tensor itself, exact."""
        return math.hypot(self.norm, self.mean * math.sqrt(self.count))

    def folded(self, size: int) -> Sketch:
        """The same with `size` numbers: a power of two, of which the last digits of h(i) choose one. It is what a sketch of that size
        would have been."""
        return self if len(self.values) <= size else dataclasses.replace(self, values=self.values.double().view(-1, size).sum(0).float())

    def to_dict(self) -> dict:
        """As it stands in a trace line; `values` is base64 of little-endian float32."""
        packed = bytes(self.values.to(torch.float32).contiguous().view(torch.uint8).tolist())
        return {"version": VERSION, "size": len(self.values), "values": base64.b64encode(packed).decode(), "count": self.count, "mean": self.mean,
                "norm": self.norm, "quantiles": self.quantiles, "unordered": self.unordered}  # fmt: skip

    @classmethod
    def from_dict(cls, held: dict) -> Sketch:
        """Raises ValueError for a sketch of another version, and for what is none."""
        try:
            size = held["size"]
            if held["version"] != VERSION or size not in _SIZES:
                raise ValueError(f"a sketch of version {held['version']} and size {size}; this whydiff reads version {VERSION}, up to {SIZE}")
            values = torch.frombuffer(bytearray(base64.b64decode(held["values"])), dtype=torch.float32)
            if len(values) != size:
                raise ValueError(f"a sketch of {len(values)} numbers where {size} were promised")
            made = cls(values, int(held["count"]), float(held["mean"]), float(held["norm"]), [float(q) for q in held["quantiles"]],
                       int(held["unordered"]))  # fmt: skip
            if not (0 <= made.count < 2**63 and math.isfinite(made.mean) and 0 <= made.norm < math.inf):
                raise ValueError(f"{made.count} values of mean {made.mean:g} and norm {made.norm:g}")
            return made
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"no sketch ({type(error).__name__}: {error})") from None


def numbers(tensor: torch.Tensor) -> torch.Tensor:
    """(n,) real numbers on the CPU; a complex one is two."""
    tensor = tensor.detach().cpu()
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).reshape(-1)


def sketch_of(tensor: torch.Tensor) -> Sketch:
    """The sketch of a tensor of any shape and type."""
    return looked_at(tensor)[0]


def looked_at(tensor: torch.Tensor) -> tuple[Sketch, Moments]:
    """The sketch and the moments of a tensor, from one pass over it.

    The mean is not known before the end, so values are taken around that of the first piece, and what that is wrong by is taken out
    of the sums afterwards; where that would cost digits, there is a second pass.
    """
    values = numbers(tensor)
    found = _around(values, None)
    if found[0] is None:
        found = _around(values, found[1].mean)
    total, of, square, unordered = found
    mean = of.mean if of.count else 0.0
    return Sketch(total.to(torch.float32), of.count, mean, math.sqrt(max(0.0, square)), _quantiles(values), unordered % 2**64), of


def _around(values: torch.Tensor, center: float | None) -> tuple[torch.Tensor | None, Moments, float, int]:
    """(sketch of the finite values less their mean, moments, square of their norm, unordered hash), all taken around `center`, or
    around the mean of the first values. No sketch where the mean turned out to be far from there."""
    given, count, low, high = center is not None, 0, math.inf, -math.inf
    total, missing = torch.zeros(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    summed, square, unordered = 0.0, 0.0, 0
    for number, piece in enumerate(pieces(values)):
        unordered += _unordered(piece)
        least, most = piece.aminmax()  # NaN and infinities show in one of them
        kept, marks = piece, None
        if not math.isfinite(float(least) + float(most)):
            marks = piece.isfinite()
            kept = piece[marks]
            if not len(kept):
                missing += _part(number, torch.ones_like(piece))
                continue
            least, most = kept.aminmax()
        center = float(kept.mean()) if center is None else center
        left = piece - center
        if marks is not None:
            left, missing = torch.where(marks, left, 0.0), missing + _part(number, (~marks).to(torch.float64))
        total += _part(number, left)
        summed, square = summed + float(left.sum()), square + float(left @ left)
        count, low, high = count + len(kept), min(low, float(least)), max(high, float(most))
    if not count:
        return total, Moments(0, math.nan, math.nan, math.nan), 0.0, unordered
    shift = summed / count
    of, left_over = Moments(count, center + shift, low, high), square - summed * shift
    if not given and left_over < 1e-4 * square:
        return None, of, square, unordered
    return total - shift * (_sketch_of_ones(len(values)) - missing), of, left_over, unordered


def _unordered(piece: torch.Tensor) -> int:
    """A sum over the mixed bits of the values, the same in every order."""
    bits = (piece + 0.0).view(torch.int64).mul_(-7046029254386353131)  # -0 is 0
    return int(bits.bitwise_xor_(bits >> 32).mul_(-4417276706812531889).sum())


def _quantiles(values: torch.Tensor) -> list[float]:
    """Of up to SAMPLE values at places in step with no axis; all of them if there are fewer."""
    if len(values) > SAMPLE:
        at = (torch.arange(SAMPLE, dtype=torch.float64) + 0.5) * 0.6180339887498949 % 1
        values = values[(at * len(values)).long().clamp_max(len(values) - 1)]
    values = values.to(torch.float64)
    values = values[values.isfinite()]
    return torch.quantile(values, torch.tensor(QUANTILES, dtype=torch.float64)).tolist() if len(values) else []


def _of_one_size(a: Sketch, b: Sketch) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of both in float64, those of the larger one folded."""
    size = min(len(a.values), len(b.values))
    return a.folded(size).values.double(), b.folded(size).values.double()


def error_of(size: int) -> float:
    """What an estimated distance is wrong by at most, relative, in 95 of 100 cases: 3.1 % with SIZE numbers, 17 % with SMALL."""
    return ERROR * math.sqrt(SIZE / size)


def distance(a: Sketch, b: Sketch) -> float:
    """‖a - b‖ / ‖a‖ of the tensors, estimated: relative error `error_of` in 95 of 100 cases, absolute error RESOLUTION.

    Never agrees by accident: inf where a is zero and b is not. Both must have the same number of elements.
    """
    x, y = _of_one_size(a, b)
    apart = float(torch.linalg.vector_norm(x - y))
    apart = math.hypot(apart, (a.mean - b.mean) * math.sqrt(max(a.count, b.count)))
    return 0.0 if apart == 0.0 else apart / a.size if a.size > 0 else math.inf


def correlation(a: Sketch, b: Sketch) -> float | None:
    """Pearson's correlation of the tensors, estimated: standard error at most 1 / sqrt(SIZE) = 2.2 % (with SMALL 12 %), less the further from 0.

    The norms are known, which sharpens the estimate (Li, Hastie and Church, "Improving random projections using marginal
    information", COLT 2006): the variance is (1 - r²)² / (1 + r²) / SIZE. None where a side is constant.
    """
    if not (a.norm > 1e-12 * a.size and b.norm > 1e-12 * b.size):
        return None
    x, y = _of_one_size(a, b)
    x, y = x / a.norm, y / b.norm
    dot, surplus = float(x @ y), float(x @ x) + float(y @ y) - 2.0
    if dot > 0.5:  # the difference is what is known best
        near = 1.0 - float((x - y) @ (x - y)) / 2
        return max(-1.0, min(1.0, near))
    found = dot
    for _ in range(3):
        found = dot - found / (1 + found**2) * surplus
    return max(-1.0, min(1.0, found))


def affine(a: Sketch, b: Sketch) -> tuple[float, float, float] | None:
    """(scale, offset, ‖b - scale a - offset‖ / ‖b‖) of the line that fits b to a; exact where b lies on it. None for constants."""
    if not (a.norm > 1e-12 * a.size and b.norm > 1e-12 * b.size):
        return None
    x, y = _of_one_size(a, b)
    scale = float(x @ y) / float(x @ x)
    return scale, b.mean - scale * a.mean, float(torch.linalg.vector_norm(y - scale * x)) / b.size
