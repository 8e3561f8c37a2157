"""A small autoregressive world model with a memory of frames, on which each difference of Waypoint's builds is a switch."""

from .options import Options
from .pipeline import WorldPipeline

__all__ = ["Options", "WorldPipeline"]
