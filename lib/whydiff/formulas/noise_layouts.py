"""In which shape and order a noise tensor may have been drawn before it was laid out as it is."""

import itertools

from whydiff.measure.layouts import TOKEN_ORDERS, Layout, packing

LETTERS = {3: "c h w", 4: "b c h w", 5: "b c t h w"}


def draw_layouts(shape: tuple[int, ...]) -> list[Layout | None]:
    """Layouts from drawn to given, likely ones first; the first is None, drawn as it is.

    (B, C, H, W) and (B, C, T, H, W): axes after the batch in any order, H and W exchanged first; drawn as packed tokens
    (B, L, 4·C). (B, L, D), tokens: drawn as (B, D/4, H, W) and packed, or as (B, D, H, W), for each H · W that fits.
    """
    shape = tuple(shape)
    found: list[Layout | None] = [None]
    if len(shape) == 3:
        found += _tokens(shape)
    if len(shape) in LETTERS:
        found += _permuted(shape)
    if len(shape) in (4, 5) and shape[-1] % 2 == 0 and shape[-2] % 2 == 0:
        frames = shape[2] if len(shape) == 5 else 1
        packed = (shape[0], frames * shape[-2] * shape[-1] // 4, 4 * shape[1])
        found += [packing(shape, packed, order, "h w") for order in TOKEN_ORDERS[:2]]
    return found


def _permuted(shape: tuple) -> list[Layout]:
    """Axes but the batch drawn in another order; the exchange of the last two, a swapped height and width, first."""
    axes = list(range(len(shape)))
    fixed = axes[:1] if len(shape) > 3 else []
    free = axes[len(fixed) :]
    letters = LETTERS[len(shape)].split()
    found = []
    for order in sorted(itertools.permutations(free), key=lambda p: (p[-2:] != (axes[-1], axes[-2]), _moved(p, free))):
        drawn = [*fixed, *order]
        # an axis of size 1 makes no difference to the order of values
        if [i for i in drawn if shape[i] > 1] == [i for i in axes if shape[i] > 1]:
            continue
        sizes = tuple(shape[i] for i in drawn)
        name = f"{' '.join(letters[i] for i in drawn)} -> {' '.join(letters)}"
        found.append(Layout(name, shape, sizes, sizes, tuple(drawn.index(i) for i in axes)))
    return found


def _tokens(shape: tuple) -> list[Layout]:
    """(B, L, D) drawn with two axes for the picture; squarish pictures first."""
    b, length, d = shape
    pairs = [(h, length // h) for h in range(1, length + 1) if length % h == 0]
    pairs.sort(key=lambda hw: abs(hw[0] - hw[1]))
    found = []
    if d % 4 == 0:
        found += [packing((b, d // 4, 2 * h, 2 * w), shape, order, "h w").reversed()
                  for h, w in pairs for order in TOKEN_ORDERS[:2]]
    if length > 1 and d > 1:
        found.append(Layout("b d l -> b l d", shape, (b, d, length), (b, d, length), (0, 2, 1)))
    return found


def _moved(order: tuple, free: list) -> int:
    return sum(a != b for a, b in zip(order, free, strict=True))
