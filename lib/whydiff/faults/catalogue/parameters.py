"""Faults of stage `parameters`: what was asked for is not what runs."""

from __future__ import annotations

import dataclasses
import json

from whydiff.faults.fault import Trial, fault
from whydiff.faults.rewriting import default_of, edit, reconfigure, requests


@fault("height-width-swapped", "flux", "sd15", "flux_port", "sd3", "sdxl", "qwen", "wan")
def _(trial: Trial) -> None:
    host = trial.faulty
    if host.kind == "flux_port":
        host.pipeline.options = dataclasses.replace(host.pipeline.options, width_first=True)
    elif trial.draw.random() < 0.5:
        host.call["height"], host.call["width"] = host.call["width"], host.call["height"]
    else:

        def swap(arguments):
            arguments["height"], arguments["width"] = arguments["width"], arguments["height"]

        requests(host.pipeline, swap)


@fault("zero-value-treated-as-missing", "flux", "sd15", "sdxl", "sd3", "wan", guidance_scale=0.0)
def _(trial: Trial) -> None:
    default = default_of(trial.faulty.pipeline, "guidance_scale")
    if trial.faulty.kind == "flux":
        default = trial.draw.choice([1.0, default])

    def parse(arguments):
        arguments["guidance_scale"] = arguments["guidance_scale"] or default

    requests(trial.faulty.pipeline, parse)


@fault("default-guidance-differs", "flux", "sd15", "flux_port", "sdxl", "sd3", "wan")
def _(trial: Trial) -> None:
    for host in (trial.faulty, trial.healthy):
        host.call.pop("guidance_scale")
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        pipeline.options = dataclasses.replace(pipeline.options, default_guidance_scale=trial.draw.choice([1.0, 2.5, 5.0]))
        return
    default = default_of(pipeline, "guidance_scale")
    other = trial.draw.choice([value for value in (2.5, 3.5, 5.0, 7.0, 7.5) if value != default])
    edit(pipeline, "__call__", (f"guidance_scale: float = {default}", f"guidance_scale: float = {other}"))


@fault("saved-preset-drops-parameter", "flux", "sd15", "sdxl", "sd3", "wan", guidance_scale=2.0)
def _(trial: Trial) -> None:
    saved = {key for key in trial.faulty.call if key != "guidance_scale"}
    trial.faulty.call = json.loads(json.dumps({key: value for key, value in trial.faulty.call.items() if key in saved}))


@fault("stale-reference-artifact", "flux", "wan", "sd3", "qwen")
def _(trial: Trial) -> None:
    """The faulty side still runs the schedule that was current when its outputs were stored."""
    draw, pipeline = trial.draw, trial.faulty.pipeline
    if trial.faulty.kind in ("flux", "qwen"):
        reconfigure(pipeline, base_shift=draw.choice([0.25, 0.95, 2.05]), max_shift=draw.choice([1.15, 2.05]))
    else:
        key = "flow_shift" if trial.faulty.kind == "wan" else "shift"
        reconfigure(pipeline, **{key: draw.choice([1.0, 5.0, 8.0])})


@fault("conditioning-arg-silently-ignored", "sdxl", original_size=(96, 160), crops_coords_top_left=(24, 8))
def _(trial: Trial) -> None:
    """One of the sizes that SDXL is conditioned on is accepted and never reaches the vector."""
    ignored = trial.draw.choice([("original_size +", "target_size +"), ("+ crops_coords_top_left +", "+ (0, 0) +")])
    edit(trial.faulty.pipeline, "_get_add_time_ids", ignored)
