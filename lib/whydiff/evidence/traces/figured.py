"""A place of which a recording holds figures alone: a line with `stats`, and neither `file` nor `sketch`."""

from __future__ import annotations

import dataclasses
import math

import torch

from whydiff.places import Place

# What is rounded most coarsely of what is common: the type that is assumed where none was recorded.
COARSEST = torch.bfloat16


@dataclasses.dataclass
class Figured:
    """`figures`: by the names of measure/figures.py. `shape` and `dtype` are None where they were not recorded."""

    place: Place
    figures: dict[str, float]
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    device: str = "cpu"
    component: str | None = None
    injected: bool = False

    @property
    def count(self) -> int | None:
        return None if self.shape is None else math.prod(self.shape)

    @property
    def tensor(self) -> torch.Tensor:
        """On the meta device: as far as shape and type are known."""
        dtype = getattr(torch, self.dtype or "", COARSEST)
        return torch.empty(self.shape or (), dtype=dtype if isinstance(dtype, torch.dtype) else COARSEST, device="meta")

    def to_line(self) -> dict:
        place = dataclasses.asdict(self.place)
        figures = {name: value if math.isfinite(value) else str(value) for name, value in self.figures.items()}  # JSON knows no NaN
        return {"probe": place.pop("probe"), **place, "component": self.component, "shape": None if self.shape is None else list(self.shape),
                "dtype": self.dtype, "device": self.device, "stats": figures, **({"injected": True} if self.injected else {})}  # fmt: skip


def from_line(line: dict, place: Place, about: dict) -> Figured | None:
    """None for a line that holds no figure either. Raises ValueError, TypeError, OverflowError or RuntimeError (a shape that no tensor
    has) for figures that are no numbers."""
    stats = line.get("stats")
    figures = {name: float(value) for name, value in stats.items() if value is not None} if isinstance(stats, dict) else {}
    if not figures:
        return None
    shape = None if line.get("shape") is None else tuple(int(n) for n in line["shape"])
    entry = Figured(place, figures, shape, line.get("dtype"), **about)
    _ = entry.tensor  # a shape that no tensor has is known here, and not where it is looked at
    return entry
