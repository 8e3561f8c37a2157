"""Pictures of the report: PNG for pixels, inline SVG for curves (it follows the page's colours, dark theme and print)."""

from __future__ import annotations

import base64
import io
import math

import numpy as np

# Five stops whose lightness only grows, so that the picture also reads in grey.
_STOPS = np.array([[13, 8, 60], [40, 70, 130], [35, 135, 140], [120, 195, 90], [250, 230, 60]], dtype=np.float64)
FRAMES = 5  # of a video


def frames(image) -> list[np.ndarray]:
    """(B, H, W, C) or (B, F, H, W, C) in [0, 1] -> up to FRAMES pictures (H, W, 3), evenly spread."""
    pixels = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    chosen = np.unique(np.linspace(0, len(pixels) - 1, min(FRAMES, len(pixels))).round().astype(int))
    pixels = pixels[chosen][..., :3].clip(0, 1)
    return [np.broadcast_to(p, (*p.shape[:2], 3)) if p.shape[-1] == 1 else p for p in pixels]


def difference(reference, candidate) -> tuple[list[np.ndarray], int]:
    """|reference - candidate| of two pictures of one shape as grey, and the factor by which it is amplified to be seen."""
    pairs = list(zip(frames(reference), frames(candidate), strict=True))
    largest = max((float(np.abs(a - b).max()) for a, b in pairs), default=0.0)
    factor = 1 if largest == 0 else next((f for f in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if f * largest > 0.5), 1000)
    grey = [np.repeat((factor * np.abs(a - b)).max(-1, keepdims=True).clip(0, 1), 3, axis=-1) for a, b in pairs]
    return grey, factor


def png(pictures: list[np.ndarray], width: int = 256) -> str:
    """Pictures side by side as one PNG data address, enlarged by a whole number to about `width` pixels each."""
    from PIL import Image

    scale = max(1, round(width / pictures[0].shape[1]))
    gap = np.zeros((pictures[0].shape[0], 1, 3), dtype=np.float32)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    raw = (np.concatenate(parts, axis=1) * 255).round().astype(np.uint8)
    image = Image.fromarray(raw)
    if image.width * scale > 2000:
        scale = max(1, 2000 // image.width)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def heat(values, width: int = 256, span: float = 2.5) -> str:
    """A slice of a tensor as colours from -span to span: tokens by channels, or height by width of channel 0."""
    plane = np.asarray(values, dtype=np.float64)
    while plane.ndim > 2:
        plane = plane[0]
    plane = plane[:96, :96] if plane.ndim == 2 else plane[None, :96]
    place = ((np.nan_to_num(plane) + span) / (2 * span)).clip(0, 1) * (len(_STOPS) - 1)
    low = np.minimum(place.astype(int), len(_STOPS) - 2)
    colours = _STOPS[low] + (place - low)[..., None] * (_STOPS[low + 1] - _STOPS[low])
    return png([colours / 255], width)


def curves(series: dict[str, list[float]], y_label: str, width: int = 560, height: int = 220) -> str:
    """Values over the step as inline SVG. The first series is a solid line with dots, the second dashed with squares."""
    from markupsafe import Markup, escape

    values = [v for line in series.values() for v in line if math.isfinite(v)]
    if not values:
        return Markup("")
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1
    longest = max(len(line) for line in series.values())
    left, right, top, bottom = 52, 12, 12, 34

    def x(i: int) -> float:
        return left + (width - left - right) * (i / max(1, longest - 1))

    def y(v: float) -> float:
        return height - bottom - (height - top - bottom) * (v - low) / (high - low)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(y_label)} over the step">']
    for tick in np.linspace(low, high, 5):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
                     f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>')  # fmt: skip
    for step in sorted({round(s) for s in np.linspace(0, longest - 1, min(longest, 7))}):
        parts.append(f'<text x="{x(step):.1f}" y="{height - 16}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{height - 2}" text-anchor="middle">step</text>')
    for number, line in enumerate(series.values()):
        kind = "reference" if number == 0 else "candidate"
        points = [(x(i), y(v)) for i, v in enumerate(line) if math.isfinite(v)]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        for a, b in points if longest <= 60 else []:
            dot = f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' if number == 0 else \
                f'<rect class="{kind}" x="{a - 2.5:.1f}" y="{b - 2.5:.1f}" width="5" height="5"/>'
            parts.append(dot)
    return Markup("".join([*parts, "</svg>"]))


def profile_bars(entry: dict, width: int = 340, height: int = 120) -> str:
    """The share of the squared error along one axis, `{"axis", "size", "shares"}` of a verdict, as bars in inline SVG."""
    from markupsafe import Markup, escape

    left, right, top, bottom = 40, 6, 8, 22
    shares, high = entry["shares"], max(entry["shares"]) or 1.0
    step, base = (width - left - right) / len(shares), height - bottom
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="share of the error by {escape(entry["axis"])}">',
             f'<line class="grid" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>',
             f'<text x="{left - 5}" y="{top + 8}" text-anchor="end">{100 * high:.3g} %</text>',
             f'<text x="{left}" y="{height - 6}">0</text>',
             f'<text x="{width - right}" y="{height - 6}" text-anchor="end">{entry["size"] - 1}</text>']  # fmt: skip
    for i, value in enumerate(shares):
        tall = (base - top) * value / high
        parts.append(f'<rect class="share" x="{left + i * step:.1f}" y="{base - tall:.1f}" width="{0.85 * step:.1f}" height="{tall:.1f}"/>')
    return Markup("".join([*parts, "</svg>"]))
