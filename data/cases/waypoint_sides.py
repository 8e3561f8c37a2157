"""Builds of the small world model, named after the builds of Waypoint-1-Small whose choices they make."""

from waypoint import WorldPipeline
from waypoint.options import THREE_STEP_SIGMAS

# Only what each is documented to do otherwise than the official engine, and can be seen on this model (waypoint/README.md).
_OLD_PORT = {"memory": "flat", "norm_eps": 1e-6, "norm_dtype": "bfloat16", "control_chunk": 8}
BUILDS = {
    "official": {},
    "script": {"noise": "frame", "text_encoder": "t5", "memory": "none", "write": "never"},  # the note's "official"
    "port": _OLD_PORT | {"sigmas": THREE_STEP_SIGMAS},  # the state that the note describes
    "port_next_day": _OLD_PORT | {"noise": "frame"},  # the note's fixes 1 and 2 are in
    "port_head": {"noise": "frame", "round_frequencies": True},
}


def world(like="official", **switches):
    """The build `like`, with differences of one's own switched on (waypoint/options.py)."""
    if like not in BUILDS:
        raise ValueError(f"like is {like!r}; known are {', '.join(BUILDS)}.")
    return WorldPipeline(**(BUILDS[like] | switches))
