"""Builds of the small world model, named after the builds of Waypoint-1-Small whose choices they make."""

from waypoint import WorldPipeline
from waypoint.options import THREE_STEP_SIGMAS

# Only what these builds are documented to do otherwise (waypoint/README.md); the rest is the official engine's.
SCRIPT = {"noise": "frame", "text_encoder": "t5", "memory": "none", "write": "never"}  # the note's "official" script
PORT = {"sigmas": THREE_STEP_SIGMAS, "memory": "flat", "norm_eps": 1e-6, "norm_dtype": "bfloat16"}  # the state the note describes


def official(**build):
    """The official engine; `build` switches differences on (waypoint/options.py)."""
    return WorldPipeline(**build)


def script(**build):
    """The script that the note takes for the official pipeline."""
    return WorldPipeline(**(SCRIPT | build))


def port(**build):
    """FastVideo's port at the commit that the note describes."""
    return WorldPipeline(**(PORT | build))
