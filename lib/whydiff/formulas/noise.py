"""Which recipe draws this noise: seed, generator device, dtype drawn, layout, scale, earlier draws?"""

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whydiff.errors import Trouble
from whydiff.formulas.noise_layouts import draw_layouts
from whydiff.formulas.philox import THREADS, TOLERANCE, cuda_randn, offset_after
from whydiff.measure.layouts import Layout

DTYPES = ("float32", "bfloat16", "float16", "float64")
DEVICES = ("cpu", "cuda")
BATCHES = ("whole", "seed + i", "same seed", "one by one")
LOOK = 16  # torch's CPU generator works in blocks of 16, so a draw begins with the values of a draw of 16
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True)
class NoiseRecipe:
    """How a noise tensor of ``shape`` was drawn; `draw` does it again."""

    shape: tuple[int, ...]
    seed: int
    device: str = "cpu"  # of the generator; 'cuda' is computed on the CPU
    dtype: str = "float32"  # that was drawn
    arrangement: Layout | None = None  # the drawn tensor is its candidate, the noise its reference; None: as it is
    batch: str = "whole"  # or each item of axis 0 by itself: seed + i, the same seed, or one generator
    earlier: tuple[tuple[int, ...], ...] = ()  # shapes that the generator had drawn before
    offset: int = 0  # 32-bit values of its stream that a CPU generator had given before
    scale: float = 1.0  # init_noise_sigma
    cast: str | None = None  # a dtype the noise went through
    stored: str = "float32"  # dtype of the noise
    max_threads: int = 132 * 2048  # of the GPU; matters above that many elements
    exact: bool | None = None  # whether it reproduces the noise bit for bit; None: not compared
    residual: float | None = None  # relative L2

    @property
    def drawn_shape(self) -> tuple[int, ...]:
        """The shape that was drawn, before `arrangement`."""
        return self.arrangement.shape_candidate if self.arrangement else self.shape

    @property
    def layout(self) -> str:
        """The arrangement in words: an einops pattern, or 'as it is'."""
        return self.arrangement.name if self.arrangement else "as it is"

    @property
    def skipped(self) -> int:
        """How many earlier draws the generator had made."""
        return len(self.earlier)

    def draw(self) -> Tensor:
        """The noise, as `draw`."""
        return draw(self)

    @property
    def words(self) -> str:
        source = f"from a {self.device} generator with seed {self.seed}"
        parts = [f"randn({list(self.drawn_shape)}, {self.dtype}) {source}"]
        if self.arrangement:
            parts.append(f"laid out as '{self.layout}'")
        if self.batch != "whole":
            parts.append({"seed + i": "item i of the batch with seed + i", "same seed": "every item with that seed",
                          "one by one": "items drawn one after another"}[self.batch])
        if self.earlier:
            parts.append(f"after {len(self.earlier)} earlier draw{'s' if len(self.earlier) > 1 else ''} of "
                         f"{list(self.earlier[0])}")
        if self.offset:
            parts.append(f"after {self.offset} earlier values of its stream")
        if self.cast:
            parts.append(f"rounded to {self.cast}")
        if self.scale != 1:
            parts.append(f"times {self.scale:.7g}")
        return ", ".join(parts)

    def __str__(self) -> str:
        if self.exact is None:
            return self.words
        return f"{self.words} ({'bit for bit' if self.exact else f'to rounding, residual {self.residual:.2g}'})"


def draw(recipe: NoiseRecipe) -> Tensor:
    """The noise of a recipe, (*shape), in the dtype ``stored``, on the CPU."""
    return _finished(recipe, _drawn(recipe))


def recipes(shape, seeds, dtypes=DTYPES, devices=DEVICES, layouts=None, skips: int = 2, stored: str = "float32"):
    """Recipes to try for noise of ``shape``, cheapest first: no earlier draws before some, CPU before CUDA, float32
    before others, the shape as it is before other layouts, the batch whole before item by item."""
    shape = tuple(shape)
    layouts = draw_layouts(shape) if layouts is None else layouts
    for start in _starts(shape, seeds, dtypes, devices, skips, stored):
        yield from _variants(start, layouts)


def find_recipe(noise, seeds, dtypes=DTYPES, devices=DEVICES, layouts=None, skips: int = 2) -> NoiseRecipe | None:
    """The first recipe that reproduces ``noise`` bit for bit, else the first that does to rounding, else None.

    ``seeds`` are the seeds to try, ``skips`` how many earlier draws of the same shape. Any scale is found. Rounding is
    that of the dtype, or of the coarser one whose values the noise holds; for CUDA also that of its approximate sine
    (philox.TOLERANCE). Raises Trouble for noise that is empty, constant, not finite, or not floating.
    """
    if not isinstance(noise, Tensor) or not noise.is_floating_point() or noise.numel() < 2:
        raise Trouble("noise must be a floating tensor of at least two elements.")
    noise = noise.detach().cpu()
    if not bool(torch.isfinite(noise).all()) or not bool((noise != noise.flatten()[0]).any()):
        raise Trouble("noise must be finite and not constant.")
    shape, stored = tuple(noise.shape), str(noise.dtype).removeprefix("torch.")
    layouts = draw_layouts(shape) if layouts is None else layouts
    begin = torch.arange(min(LOOK, noise.numel()))
    looks = torch.stack([_as_drawn(noise, layout, begin).double() for layout in layouts])
    rounding = rounding_of(noise, stored)
    begins = _Begins(noise.numel())
    nearly = None
    for start in _starts(shape, seeds, dtypes, devices, skips, stored):
        begin = begins.of(start)
        scales = looks @ begin / (begin @ begin)
        apart = (looks - scales[:, None] * begin).norm(dim=1) / looks.norm(dim=1).clamp(min=1e-300)
        # Two bfloat16 roundings; unrelated values would be about 1 apart.
        for index in (apart <= 2 * UNITS["bfloat16"]).nonzero().flatten().tolist():
            for recipe in _variants(start, [layouts[index]]):
                found = check(recipe, noise, rounding)
                if found and found.exact:
                    return found
                nearly = nearly or found
    return nearly


def _starts(shape, seeds, dtypes, devices, skips, stored):
    for skip, device, dtype, seed in itertools.product(range(skips + 1), devices, dtypes, seeds):
        yield NoiseRecipe(shape, int(seed), device, dtype, earlier=(shape,) * skip, stored=stored)


def _variants(start: NoiseRecipe, layouts):
    """The recipes that begin with the same values: layouts, ways to draw a batch, sizes of GPU."""
    n = math.prod(start.shape)
    threads = [start.max_threads]
    if start.device == "cuda":  # GPUs with room for all elements draw the same
        threads += [t for t in dict.fromkeys(THREADS.values()) if t < n or (t >= n > start.max_threads)]
    for layout, max_threads in itertools.product(layouts, dict.fromkeys(threads)):
        items = layout.shape_candidate[0] if layout else start.shape[0] if start.shape else 1
        for batch in BATCHES if items > 1 and items < n else BATCHES[:1]:
            yield replace(start, arrangement=layout, batch=batch, max_threads=max_threads)


def check(recipe: NoiseRecipe, noise: Tensor, rounding: float) -> NoiseRecipe | None:
    """The recipe with scale and cast found, or None where the whole noise is not what it draws."""
    if recipe.device == "cuda" and recipe.batch == "whole" and noise.numel() > LOOK and not _few_agree(recipe, noise):
        return None
    drawn = _drawn(recipe)
    plain, values = _finished(replace(recipe, stored="float64"), drawn), noise.double()
    scale = float((plain * values).sum() / (plain * plain).sum())
    tolerance = 2 * rounding + (TOLERANCE if recipe.device == "cuda" else 0.0) + UNITS[recipe.dtype]
    residual = float((values - scale * plain).norm() / values.norm())
    if residual > tolerance:
        return None
    single = float(torch.tensor(scale, dtype=torch.float32))  # schedulers keep sigmas in float32
    near = 1.0 if abs(scale - 1) <= tolerance else None
    for guess in dict.fromkeys(g for g in (near, float(f"{scale:.6g}"), single, scale) if g is not None):
        for cast in (None, "bfloat16", "float16"):
            found = replace(recipe, scale=guess, cast=cast if cast != recipe.dtype else None)
            if torch.equal(_finished(found, drawn), noise):
                return _plainer(replace(found, exact=True, residual=0.0), noise)
    return replace(recipe, scale=near or single, exact=False, residual=residual)


def _plainer(found: NoiseRecipe, noise: Tensor) -> NoiseRecipe:
    """The draw in the coarse dtype itself where that gives the same values as rounding a float32 draw.

    So it does on CUDA, and on the CPU of torch 2.13 up to the last 16 of a draw whose size is no multiple of 16.
    """
    coarse = found.cast or (found.stored if UNITS[found.stored] > UNITS[found.dtype] else None)
    direct = replace(found, dtype=coarse or found.dtype, cast=None)
    return direct if coarse and torch.equal(draw(direct), noise) else found


def _finished(recipe: NoiseRecipe, drawn: Tensor) -> Tensor:
    """What was drawn, laid out, cast, stored and scaled as the recipe says."""
    noise = recipe.arrangement.apply(drawn) if recipe.arrangement else drawn
    if recipe.cast:
        noise = noise.to(getattr(torch, recipe.cast))
    noise = noise.to(getattr(torch, recipe.stored))
    return noise if recipe.scale == 1 else (noise * recipe.scale).to(noise.dtype)


def _drawn(recipe: NoiseRecipe) -> Tensor:
    """The tensor as the generator gave it, before any layout."""
    shape = recipe.drawn_shape
    dtype = getattr(torch, recipe.dtype)
    if recipe.batch == "whole":
        return _Source(recipe, recipe.seed).draw(shape, dtype)
    if recipe.batch == "one by one":
        source = _Source(recipe, recipe.seed)
        return torch.stack([source.draw(shape[1:], dtype) for _ in range(shape[0])])
    step = 1 if recipe.batch == "seed + i" else 0
    return torch.stack([_Source(recipe, recipe.seed + i * step).draw(shape[1:], dtype) for i in range(shape[0])])


class _Source:
    """A generator that has made the earlier draws of a recipe."""

    def __init__(self, recipe: NoiseRecipe, seed: int):
        self.cuda, self.max_threads, self.seed, self.offset = recipe.device == "cuda", recipe.max_threads, seed, 0
        self.generator = None if self.cuda else torch.Generator().manual_seed(seed)
        if recipe.offset and not self.cuda:
            torch.rand(recipe.offset, generator=self.generator)  # one 32-bit value for each float32
        for shape in recipe.earlier:
            self.draw(shape, getattr(torch, recipe.dtype), keep=False)

    def draw(self, shape, dtype: torch.dtype, keep: bool = True) -> Tensor | None:
        """The next draw; where it need not be kept, a CUDA generator only moves on."""
        if not self.cuda:
            return torch.randn(shape, generator=self.generator, dtype=dtype)
        drawn = self.peek(shape, dtype) if keep else None
        self.offset += offset_after(math.prod(shape), self.max_threads, dtype)
        return drawn

    def peek(self, shape, dtype: torch.dtype, elements: Tensor | None = None) -> Tensor:
        """The next draw, or some elements of it (CUDA), with the generator left where it was."""
        if self.cuda:
            return cuda_randn(shape, self.seed, self.offset, self.max_threads, dtype, elements)
        return torch.randn(shape, generator=self.generator.clone_state(), dtype=dtype)


class _Begins:
    """The first 16 values of a draw of n elements; earlier draws are made once for each seed, device and dtype."""

    def __init__(self, n: int):
        self.n, self.sources = n, {}

    def of(self, recipe: NoiseRecipe) -> Tensor:
        dtype, look = getattr(torch, recipe.dtype), min(LOOK, self.n)
        key = (recipe.seed, recipe.device, recipe.dtype)
        skipped, source = self.sources.pop(key, (0, None))
        if source is None or skipped > recipe.skipped:
            skipped, source = 0, _Source(replace(recipe, earlier=()), recipe.seed)
        for _ in range(recipe.skipped - skipped):
            source.draw((self.n,), dtype, keep=False)
        self.sources[key] = recipe.skipped, source
        if recipe.device == "cuda":
            return source.peek((self.n,), dtype, torch.arange(look)).double()
        # The last 16 of a draw are drawn anew where n is no multiple of 16, hence not below 32.
        return source.peek((LOOK if self.n >= 2 * LOOK else self.n,), dtype)[:look].double()


def _few_agree(recipe: NoiseRecipe, noise: Tensor) -> bool:
    """64 places of a CUDA draw before all are computed: another GPU agrees at the beginning and not further on."""
    places = torch.randint(noise.numel(), (64,), generator=torch.Generator().manual_seed(0)).sort().values
    shape = recipe.drawn_shape
    drawn = _Source(recipe, recipe.seed).peek(shape, getattr(torch, recipe.dtype), places).double()
    seen = _as_drawn(noise, recipe.arrangement, places).double()
    scale = seen @ drawn / (drawn @ drawn)
    return float((seen - scale * drawn).norm()) <= 0.1 * float(seen.norm())


def _as_drawn(noise: Tensor, arrangement: Layout | None, places: Tensor) -> Tensor:
    """The noise at flat ``places`` of the tensor that was drawn, without laying out all of it."""
    return noise.reshape(-1)[places] if arrangement is None else arrangement.look(noise, places)


def rounding_of(noise: Tensor, stored: str) -> float:
    """Rounding of the dtype, or of a coarser one that holds every value."""
    coarse = [UNITS[d] for d in ("bfloat16", "float16") if torch.equal(noise.to(getattr(torch, d)).to(noise.dtype), noise)]
    return max([UNITS[stored], *coarse])
