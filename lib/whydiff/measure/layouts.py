"""Which rearrangement makes two tensors comparable: a reshape, a permutation of axes, packed patches, a final zero."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.measure.compare import relative_l2
from whydiff.measure.onepass.plain import on_device, square
from whydiff.measure.tensors import as_tensor, chunks

TOKEN_ORDERS = ("c ph pw", "ph pw c", "c pw ph", "pw ph c")  # FLUX packs the first, most video models the second
MOST_AXES = 6  # 720 permutations


@dataclass(frozen=True)
class Layout:
    """How the candidate's tensor becomes the reference's: reshape to ``split``, permute by ``order``, reshape.

    ``name`` is an einops pattern, candidate first: ``b (h w) (c ph pw) -> b c (h ph) (w pw)``. ``terminal`` is -1 where
    the candidate's last value (a final sigma 0) is dropped, +1 where a 0 is appended, and 0 otherwise. ``copies`` is n where
    the reference holds the candidate's tensor n times along the first axis, -n where it is the other way round.
    """

    name: str
    shape_reference: tuple[int, ...]
    shape_candidate: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    terminal: int = 0
    copies: int = 1

    @property
    def trivial(self) -> bool:
        """Whether both shapes and the order of the values are the same already."""
        return self.shape_reference == self.shape_candidate and self.order == tuple(range(len(self.order)))

    def apply(self, candidate: Tensor) -> Tensor:
        """The candidate's tensor in the reference's shape. Raises Trouble for a tensor of another shape."""
        self._check(candidate, self.shape_candidate, "candidate")
        if self.copies != 1:
            return _repeated(candidate, self.copies, self.name)
        if self.terminal:
            return candidate[:-1] if self.terminal < 0 else torch.cat([candidate, candidate.new_zeros(1)])
        return candidate.reshape(self.split).permute(self.order).reshape(self.shape_reference)

    def invert(self, reference: Tensor) -> Tensor:
        """The reference's tensor in the candidate's shape. Raises Trouble for a tensor of another shape."""
        self._check(reference, self.shape_reference, "reference")
        if self.copies != 1:
            return _repeated(reference, -self.copies, self.name)
        if self.terminal:
            return reference[:-1] if self.terminal > 0 else torch.cat([reference, reference.new_zeros(1)])
        back = tuple(int(i) for i in np.argsort(self.order))
        permuted = tuple(self.split[i] for i in self.order)
        return reference.reshape(permuted).permute(back).reshape(self.shape_candidate)

    def look(self, reference: Tensor, places: Tensor) -> Tensor:
        """`invert(reference)` at the flat ``places`` (k,) of the candidate's tensor only; not for terminals."""
        permuted = tuple(self.split[i] for i in self.order)
        back = reference.reshape(permuted).permute(tuple(int(i) for i in np.argsort(self.order)))
        return back[torch.unravel_index(places, back.shape)]

    def reversed(self) -> "Layout":
        """The same rearrangement with the roles of reference and candidate exchanged."""
        return Layout(" -> ".join(reversed(self.name.split(" -> "))), self.shape_candidate, self.shape_reference,
                      tuple(self.split[i] for i in self.order), tuple(int(i) for i in np.argsort(self.order)),
                      -self.terminal, -self.copies if self.copies != 1 else 1)

    def __str__(self) -> str:
        return self.name

    def _check(self, tensor: Tensor, shape: tuple, role: str) -> None:
        if tuple(tensor.shape) != shape:
            raise Trouble(f"layout '{self.name}' expects a {role} of shape {list(shape)}, got {list(tensor.shape)}.")


def find_layout(reference, candidate, tolerance: float = 0.0, by_values: bool = True):
    """The first layout under which both tensors agree within ``tolerance`` (relative L2), or None.

    Tried from plain to intricate: as they are, another shape, axes permuted (and merged or split), 2x2 patches packed
    into tokens, tokens or the elements in them in another order. With ``by_values=False`` the answer is the list of
    all layouts that the shapes allow, whatever the values.
    """
    a, b = as_tensor(reference, "reference"), as_tensor(candidate, "candidate")
    if not by_values:
        return list(_possible(tuple(a.shape), tuple(b.shape), same_shape=False))
    if a.numel() == 0 or b.numel() == 0:
        return None
    if a.numel() == b.numel() and not _norms_agree(a, b, tolerance):
        return None
    for layout in _possible(tuple(a.shape), tuple(b.shape), same_shape=True):
        if _promising(layout, a, b, tolerance) and relative_l2(a, layout.apply(b)) <= tolerance:
            return layout
    return None


def find_copies(reference: Tensor, candidate: Tensor) -> Layout | None:
    """The layout of a batch that holds the other side's several times over, bit for bit: pipelines that guide keep what both
    branches share so. None where there are no such copies, whatever the other side's values."""
    for whole, part, sign in ((reference, candidate, 1), (candidate, reference, -1)):
        if whole.ndim != part.ndim or whole.ndim < 2 or whole.shape[1:] != part.shape[1:] or not part.shape[0]:
            continue
        n, rest = divmod(whole.shape[0], part.shape[0])
        if n > 1 and not rest and all(torch.equal(chunk, whole[: part.shape[0]]) for chunk in whole.chunk(n)):
            shapes = tuple(reference.shape), tuple(candidate.shape)
            return Layout(f"the {'reference' if sign > 0 else 'candidate'} holds it {n} times", *shapes, shapes[1],
                          tuple(range(candidate.ndim)), copies=sign * n)  # fmt: skip
    return None


def _repeated(tensor: Tensor, n: int, name: str) -> Tensor:
    """The tensor n times along its first axis; for -n the one that it holds n times. Raises Trouble where those differ."""
    if n > 0:
        return torch.cat([tensor] * n)
    parts = tensor.chunk(-n)
    if not all(torch.equal(part, parts[0]) for part in parts):
        raise Trouble(f"layout '{name}': the {-n} parts are not copies of each other.")
    return parts[0]


def pack(latents: Tensor, order: str = "c ph pw") -> Tensor:
    """(B, C, H, W) -> (B, H/2 · W/2, C·4): 2x2 patches as tokens, their elements in ``order``; FLUX has 'c ph pw'."""
    b, c, h, w = latents.shape
    return packing((b, c, h, w), (b, h * w // 4, 4 * c), order, "h w").invert(latents)


def unpack(tokens: Tensor, height: int, width: int, order: str = "c ph pw") -> Tensor:
    """(B, L, C·4) -> (B, C, H, W), the inverse of `pack`; height and width are those of the latents."""
    b, length, d = tokens.shape
    return packing((b, d // 4, height, width), (b, length, d), order, "h w").apply(tokens)


def _possible(ref: tuple, cand: tuple, same_shape: bool):
    """Every layout that the shapes allow, plain ones first, each pattern once."""
    if len(ref) == len(cand) == 1 and abs(ref[0] - cand[0]) == 1:
        terminal = ref[0] - cand[0]
        name = "n 0 -> n" if terminal < 0 else "n -> n 0"
        yield Layout(name, ref, cand, cand, (0,), terminal)
    if math.prod(ref) != math.prod(cand):
        return
    seen = set()
    for layout in itertools.chain(_reshapes(ref, cand), _permutations(ref, cand, same_shape),
                                  _packings(ref, cand), _token_orders(ref, cand) if same_shape else ()):
        if layout.name not in seen:
            seen.add(layout.name)
            yield layout


def _reshapes(ref: tuple, cand: tuple):
    if ref == cand:
        yield Layout("as it is", ref, cand, cand, tuple(range(len(cand))))
    else:
        name = " -> ".join("(" + " ".join(map(str, shape)) + ")" for shape in (cand, ref))
        yield Layout(name, ref, cand, cand, tuple(range(len(cand))))


def _permutations(ref: tuple, cand: tuple, same_shape: bool):
    """Axes of either side in another order, neighbours then merged or split to reach the other side's shape."""
    if ref == cand and not same_shape:
        return
    for split_side, other in ((cand, ref), (ref, cand)):
        letters = _letters(split_side)
        axes = [i for i, size in enumerate(split_side) if size > 1]
        if len(axes) > MOST_AXES:
            continue
        # Few moved axes first: a transposition is a likelier mistake than a cycle.
        for perm in sorted(itertools.permutations(axes), key=lambda p: sum(x != y for x, y in zip(p, axes))):
            if list(perm) == axes:
                continue
            shape = tuple(split_side[i] for i in perm)
            grouped = _grouped(shape, [letters[i] for i in perm], other)
            if grouped is None:
                continue
            plain = " ".join(letters[i] if split_side[i] > 1 else "1" for i in range(len(split_side)))
            layout = Layout(f"{plain} -> {grouped}", other, split_side, tuple(split_side[i] for i in axes),
                            tuple(axes.index(i) for i in perm))
            yield layout if split_side is cand else layout.reversed()


def _packings(ref: tuple, cand: tuple):
    """2x2 patches as tokens (B, L, 4·C), or as channels (B, 4·C, H/2, W/2), on one side only."""
    for flat, packed, swap in ((ref, cand, False), (cand, ref, True)):
        if len(flat) not in (4, 5) or flat[-1] % 2 or flat[-2] % 2 or flat == packed:
            continue
        for order in TOKEN_ORDERS:
            for sequence in ("h w", "w h"):
                layout = packing(flat, packed, order, sequence)
                yield layout.reversed() if swap else layout
        if len(flat) == len(packed) == 4 and packed[1] == 4 * flat[1]:
            for order in TOKEN_ORDERS:
                layout = packing(flat, packed, order, "h w", channels_first=True)
                yield layout.reversed() if swap else layout


def packing(flat: tuple, packed: tuple, order: str, sequence: str, channels_first: bool = False) -> Layout:
    """Reference (B, C, [T,] H, W), candidate with patches of 2x2 as tokens in the given orders."""
    time = ["t"] if len(flat) == 5 else []
    sizes = {"b": flat[0], "c": flat[1], "t": flat[2], "h": flat[-2] // 2, "w": flat[-1] // 2, "ph": 2, "pw": 2}
    inside, along = order.split(), time + sequence.split()
    axes = ["b", *inside, *along] if channels_first else ["b", *along, *inside]
    target = ["b", "c", *time, "h", "ph", "w", "pw"]
    middle = f"({' '.join(inside)}) {' '.join(along)}" if channels_first else f"({' '.join(along)}) ({order})"
    name = f"b {middle} -> b c {'t ' if time else ''}(h ph) (w pw)"
    return Layout(name, flat, packed, tuple(sizes[a] for a in axes), tuple(axes.index(a) for a in target))


def _token_orders(ref: tuple, cand: tuple):
    """(B, L, D) on both sides: another order of the tokens, of the elements inside a token, or of both."""
    if ref != cand or len(ref) != 3:
        return
    b, length, d = ref
    grids = [None] + [h for h in range(2, length // 2 + 1) if length % h == 0]
    orders = [(x, y) for x in TOKEN_ORDERS for y in TOKEN_ORDERS if x < y or y < x] if d % 4 == 0 and d > 4 else []
    for h in grids:
        for theirs, ours in [(None, None), *orders]:
            if h is None and theirs is None:
                continue
            sizes = {"b": b, "l": length, "h": h, "w": length // h if h else None, "d": d, "c": d // 4, "ph": 2, "pw": 2}
            left = ["b", *(["w", "h"] if h else ["l"]), *(theirs.split() if theirs else ["d"])]
            right = ["b", *(["h", "w"] if h else ["l"]), *(ours.split() if ours else ["d"])]
            token = ("d", "d") if theirs is None else (f"({theirs})", f"({ours})")
            grid = (f"(w h={h})", f"(h={h} w)") if h else ("l", "l")
            name = f"b {grid[0]} {token[0]} -> b {grid[1]} {token[1]}"
            yield Layout(name, ref, cand, tuple(sizes[a] for a in left), tuple(left.index(a) for a in right))


def _letters(shape: tuple) -> list[str]:
    return {3: "b l d", 4: "b c h w", 5: "b c t h w"}.get(len(shape), " ".join("uvxyzklmn"[: len(shape)])).split()


def _grouped(sizes: tuple, letters: list[str], shape: tuple) -> str | None:
    """``sizes`` merged in order to make ``shape``, written as a pattern; None where axes would be cut."""
    left, words = list(zip(sizes, letters, strict=True)), []
    for size in shape:
        product, names = 1, []
        while product < size and left:
            factor, letter = left.pop(0)
            product *= factor
            names.append(letter)
        if product != size:
            return None
        words.append("1" if not names else names[0] if len(names) == 1 else f"({' '.join(names)})")
    return " ".join(words) if not left else None


def _norms_agree(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Rearranging keeps ‖b‖, and | ‖a‖ - ‖b‖ | ≤ ‖a - b‖ ≤ tolerance · ‖a‖; 1e-9 allows for the order of the sums."""
    na, nb = (math.sqrt(sum(square(on_device(part)) for _, part in chunks(t))) for t in (a, b))
    return not (abs(na - nb) > (tolerance + 1e-9) * na)


def _promising(layout: Layout, a: Tensor, b: Tensor, tolerance: float) -> bool:
    """A look at 256 places before all are moved: unrelated values would be about 1.4 apart, agreeing ones near 0."""
    if layout.terminal or layout.trivial or a.numel() <= 4096:
        return True
    places = torch.randint(a.numel(), (256,), generator=torch.Generator().manual_seed(0))
    ours = a.reshape(-1)[places]
    distance = relative_l2(ours, layout.reversed().look(b, places))
    return not distance > max(0.5, 4 * tolerance) or not bool(ours.any())
