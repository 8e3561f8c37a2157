"""Changes of value that leave every element in its place: scale, offset, range, rounding, clamping."""

import math

import torch
from torch import Tensor

from whydiff.measure.relations import Pair, Relation
from whydiff.measure.tensors import UNIT_ROUNDING

ROUNDINGS = {
    "to the nearest integer": torch.round,
    "down to an integer": torch.floor,
    "towards zero to an integer": torch.trunc,
    "up to an integer": torch.ceil,
    "to 8 bit in [0, 1]": lambda x: (x * 255).round() / 255,
    "down to 8 bit in [0, 1]": lambda x: (x * 255).trunc() / 255,
    "to 8 bit in [-1, 1]": lambda x: ((x + 1) * 127.5).round() / 127.5 - 1,
}


def without_numbers(pair: Pair):
    """Zeroed, sign, and the two ranges pictures have: nothing is fitted."""
    x, y = pair.x, pair.y
    if not bool(y.any()):
        yield pair.judge("zeroed", {}, y, "candidate is zero everywhere", 1, exact=True)
        return
    yield pair.judge("sign", {"scale": -1.0}, -x, "candidate = -reference", 1)
    one = torch.ones_like(x)
    yield pair.judge("range", {"to": [-1, 1]}, 2 * x - 1, "candidate = 2 · reference - 1, [0, 1] mapped to [-1, 1]",
                     1, 2 * x, one)
    yield pair.judge("range", {"to": [0, 1]}, (x + 1) / 2, "candidate = (reference + 1) / 2, [-1, 1] mapped to [0, 1]",
                     1, x / 2, one / 2)


def rounded(pair: Pair):
    """The reference rounded to a coarser grid exactly; or both computed differently on such a grid."""
    x, y = pair.x, pair.y
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        yield pair.judge("rounded", {"to": name}, x.to(dtype).double(), f"candidate is reference rounded to {name}",
                         1, exact=True)
    for words, change in ROUNDINGS.items():
        prediction = change(x)
        # float32 cannot hold k/255; its own rounding is allowed where the grid is not the integers
        yield pair.judge("rounded", {"to": words}, prediction, f"candidate is reference rounded {words}", 1,
                         exact="integer" in words)
    for dtype in (torch.bfloat16, torch.float16):
        unit, name = UNIT_ROUNDING[dtype], str(dtype).removeprefix("torch.")
        fine = not torch.equal(x.to(dtype).double(), x)
        on_grid = torch.equal(y.to(dtype).double(), y) and not torch.equal(y, y.round())
        if fine and on_grid and x.norm() > 0:
            residual = pair.distance / float(x.norm())
            # Two roundings of the result and one of an input; more would be arithmetic, not storage.
            tolerance = max(pair.floor, 3 * unit)
            yield Relation("precision", {"dtype": name}, residual, f"candidate was computed in {name}: every value lies "
                           "on that grid, the reference's do not", 1.2, tolerance, residual <= tolerance)
    if pair.rounding:
        residual = pair.left_over(x)
        tolerance = 2 * pair.rounding
        yield Relation("rounding_error", {"unit": pair.rounding}, residual, "the difference is no larger than one "
                       f"rounding of each side ({pair.rounding:.2g})", 1.3, tolerance, residual <= tolerance)


def linear(pair: Pair):
    """candidate = scale · reference, reference + offset, or both, by least squares."""
    x, y = pair.x, pair.y
    scale = _ratio((x * y).sum(), (x * x).sum())
    few = pair.distinct < 3
    if scale is not None and scale != 0:
        scale = _simplest(pair, scale, lambda s: s * x, lambda s: (s * x,))
        # One number repeated fits any scale; only a telling one (a power of ten, a small integer) is then named.
        if not few or _telling(scale):
            yield pair.judge("scale", {"scale": scale}, scale * x, f"candidate = {scale:.9g} · reference", 2, scale * x,
                             free=0 if few else 1)
    one = torch.ones_like(x)
    offset = float((y - x).mean())
    if offset:
        offset = _simplest(pair, offset, lambda o: x + o, lambda o: (x, o * one))
        yield pair.judge("offset", {"offset": offset}, x + offset, f"candidate = reference + {offset:.9g}", 2, x,
                         offset * one, free=1)
    dx = x - x.mean()
    scale = _ratio((dx * y).sum(), (dx * dx).sum())
    if scale:
        middle = float(y.mean() - scale * x.mean())
        scale = _simplest(pair, scale, lambda s: s * x + float((y - s * x).mean()), lambda s: (s * x, middle * one))
        offset = _simplest(pair, float((y - scale * x).mean()), lambda o: scale * x + o,
                           lambda o: (scale * x, o * one))
        yield pair.judge("scale_offset", {"scale": scale, "offset": offset}, scale * x + offset,
                         f"candidate = {scale:.9g} · reference + {offset:.9g}", 3, scale * x, offset * one, free=2)


def transferred(pair: Pair):
    """Values of [0, 1] through a transfer curve: that of sRGB (IEC 61966-2-1), or a power."""
    x, y = pair.x, pair.y
    if float(x.min()) < 0 or float(y.min()) < 0 or float(x.max()) > 1 or float(y.max()) > 1:
        return
    encoded = torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.pow(1 / 2.4) - 0.055)
    yield pair.judge("transfer", {"to": "srgb"}, encoded, "candidate is reference taken as linear light and encoded as sRGB", 1.5)
    linear_light = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055).pow(2.4))
    yield pair.judge("transfer", {"to": "linear"}, linear_light, "candidate is reference decoded from sRGB to linear light", 1.5)
    inner = (x > 0) & (x < 1) & (y > 0)
    u, v = x[inner].log(), y[inner].log()
    power = _ratio((u * v).sum(), (u * u).sum())
    if power is not None and power > 0:
        power = _simplest(pair, power, lambda g: x.pow(g), lambda g: (x.pow(g),))
        words = f"{power:.6g}" if power >= 1 else f"(1/{1 / power:.6g})"
        yield pair.judge("power", {"power": power}, x.pow(power), f"candidate = reference ^ {words}", 2.2, free=1)


def clamped(pair: Pair):
    """The reference cut off at the candidate's smallest and largest value, or at one of them."""
    low, high = float(pair.y.min()), float(pair.y.max())
    cut_low, cut_high = bool((pair.x < low).any()), bool((pair.x > high).any())
    if low < high and (cut_low or cut_high):
        limits = {"min": low if cut_low else None, "max": high if cut_high else None}
        words = " and ".join(f"{'below' if k == 'min' else 'above'} {v:.6g}" for k, v in limits.items() if v is not None)
        yield pair.judge("clamped", limits, pair.x.clamp(low, high), f"candidate is reference clamped {words}", 2.5,
                         exact=pair.rounding == 0, free=len(words.split(" and ")))


def per_channel(pair: Pair):
    """Another scale, offset, or both, for each index along one axis."""
    x, y = pair.x, pair.y
    for axis, size in enumerate(x.shape):
        others = [i for i in range(x.ndim) if i != axis]
        rest = x.numel() // size
        # Three values for each channel beyond the two that are fitted, or the fit proves nothing.
        if size < 2 or rest < 5:
            continue
        mean_x, mean_y = x.mean(others, keepdim=True), y.mean(others, keepdim=True)
        dx = x - mean_x
        zero = torch.zeros_like(mean_x)
        scale = _safe((x * y).sum(others, keepdim=True), (x * x).sum(others, keepdim=True))
        slope = _safe((dx * y).sum(others, keepdim=True), (dx * dx).sum(others, keepdim=True))
        for kind, cost, s, o in (("channel_scale", 5, scale, zero),
                                 ("channel_offset", 5, zero + 1, mean_y - mean_x),
                                 ("channel_scale_offset", 5.5, slope, mean_y - slope * mean_x)):
            parameters = {"axis": axis}
            if "scale" in kind:
                parameters["scale"] = _listed(s)
            if "offset" in kind:
                parameters["offset"] = _listed(o)
            what = kind.removeprefix("channel_").replace("_", " and ")
            yield pair.judge(kind, parameters, s * x + o, f"candidate is reference with another {what} for each "
                             f"of the {size} indices of axis {axis}", cost + 0.01 * axis, s * x, o.expand_as(x),
                             free=min(size, 60))


def nonfinite(pair: Pair) -> Relation:
    """NaN or inf on a side; the residual is that of the values that are finite on both."""
    bad_x, bad_y = ~torch.isfinite(pair.x), ~torch.isfinite(pair.y)
    finite = ~(bad_x | bad_y)
    x, y = pair.x[finite], pair.y[finite]
    norm, rest = float(x.norm()) if x.numel() else 0.0, float((y - x).norm()) if x.numel() else 0.0
    residual = 0.0 if rest == 0 else rest / norm if norm else math.inf
    tolerance = max(pair.floor, 2 * pair.rounding)
    counts = {"reference": int(bad_x.sum()), "candidate": int(bad_y.sum()), "of": pair.x.numel()}
    words = (f"{counts['candidate']} of {counts['of']} values of the candidate and {counts['reference']} of the "
             "reference are NaN or infinite")
    return Relation("nonfinite", counts, residual, words, 1, tolerance, residual <= tolerance)


def independent(pair: Pair):
    """Statistically unrelated: a correlation that chance explains. It describes; it explains nothing, so it is never
    accepted."""
    n = pair.x.numel()
    dx, dy = pair.x - pair.x.mean(), pair.y - pair.y.mean()
    norms = float(dx.norm() * dy.norm())
    if n < 64 or norms == 0:
        return
    correlation = float((dx * dy).sum()) / norms
    # The correlation of unrelated values has standard deviation 1/sqrt(n); 4 of them are exceeded once in 16,000.
    if abs(correlation) <= 4 / math.sqrt(n):
        yield Relation("independent", {"correlation": round(correlation, 4)}, pair.left_over(pair.x),
                       f"candidate and reference are statistically independent (correlation {correlation:.2g})", 9,
                       pair.floor, False)


def _simplest(pair: Pair, value: float, predict, terms) -> float:
    """The roundest number near ``value`` that explains as much: a fit carries the rounding of the data.

    Where the fit does not hold the value is returned as it is.
    """
    best, allowed = pair.left_over(predict(value)), pair.allowed(*terms(value))
    if best > allowed or abs(value) < 1e-300:
        return value
    for digits in range(1, 9):
        # 1/7 and the like are as telling as decimals
        for guess in (float(f"{value:.{digits}g}"), 1 / float(f"{1 / value:.{digits}g}")):
            if pair.left_over(predict(guess)) <= max(1.001 * best, allowed / 2):
                return guess
    return value


def _telling(scale: float) -> bool:
    """2 to 16, 100, 255, 1000, ... or the inverse of one, or its negative."""
    size = max(abs(scale), 1 / abs(scale))
    return any(math.isclose(size, known, rel_tol=1e-12) for known in (*range(1, 17), 100, 127.5, 255, 256, 1000, 1024, 1e6))


def _ratio(above: Tensor, below: Tensor) -> float | None:
    return float(above / below) if float(below) > 0 else None


def _safe(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.clamp(min=1e-300), torch.ones_like(above))


def _listed(values: Tensor) -> list[float]:
    return [float(f"{v:.6g}") for v in values.flatten().tolist()]
