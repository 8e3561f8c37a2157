"""The updates of a sampling loop computed again: step() of a rebuilt scheduler on recorded predictions and latents.

The step noise is the recorded one, the schedule the one that was in effect, so what is left is the update rule.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect

import torch
from torch.overrides import TorchFunctionMode

from whydiff.causes.schedule.recipe import SCHEDULE, Recipe, latest, quiet
from whydiff.places import Place

_OTHER = {"reference": "candidate", "candidate": "reference"}
_NORMAL = {torch.randn, torch.randn_like, torch.normal, torch.Tensor.normal_}


@dataclasses.dataclass
class Loop:
    """What the updates of one side were computed from: one entry per step, in order."""

    places: list[Place]  # of `latents`
    predictions: list[torch.Tensor]
    samples: list[torch.Tensor]
    timesteps: list[float]  # as passed to step()
    extras: list[dict]  # further numbers passed to step()
    noises: list[list[torch.Tensor]]
    schedule: dict[str, torch.Tensor]
    begin: int | None  # where in the list the loop begins, if the run said so


def loop(lab, role: str) -> Loop | None:
    """The inputs of a side's updates: with a live patient those of the side whose values it was fed; else its own."""
    source = lab.traces[role if lab.patient is None else _OTHER[lab.patient]]
    own = latest(lab, role)
    if source is None or own is None:
        return None
    places = [p for p in source.at("latents") if p.occurrence == 0 and p.step is not None]
    first = source.get("initial_latents")
    predictions = [source.get("noise_pred", p.step) for p in places]
    predictions = [source.get("noise_pred_text", p.step) if t is None else t for t, p in zip(predictions, places)]
    if first is None or not places or any(t is None for t in predictions) or [p.step for p in places] != list(range(len(places))):
        return None
    samples = [first, *(source[p] for p in places[:-1])]
    if any(t.shape != samples[0].shape for t in samples):
        return None
    schedule = {name: source.get(name) for name in SCHEDULE if source.get(name) is not None}
    calls = own.producer.get("calls")
    noted = (calls.get("steps") if isinstance(calls, dict) else None) or []
    timesteps, begin = _timesteps(noted, schedule.get("timesteps"), len(places))
    if timesteps is None:
        return None
    extras = [{k: v for k, v in (noted[i] if i < len(noted) else {}).items() if k not in ("timestep", "index")} for i in range(len(places))]
    return Loop(places, predictions, samples, timesteps, extras, [_noises(source, own, p.step) for p in places], schedule, begin)


def _timesteps(noted: list, listed: torch.Tensor | None, count: int):
    """(timesteps passed to step(), index at which the loop begins or None), as noted or from the end of the list."""
    given = [entry.get("timestep") for entry in noted[:count]]
    if len(given) == count and all(isinstance(t, (int, float)) for t in given):
        return [float(t) for t in given], noted[0].get("index")
    if listed is None or listed.numel() < count:
        return None, None
    return listed.double().tolist()[listed.numel() - count :], listed.numel() - count or None


def _noises(source, own, step: int) -> list[torch.Tensor]:
    found = []
    while (place := Place("step_noise", step, None, len(found))) in source or place in own:
        found.append(source[place] if place in source else own[place])
    return found


def started(recipe: Recipe, given: Loop):
    """The scheduler of a recipe, ready for the first step of a loop; None where it cannot be."""
    scheduler = recipe.build()
    if scheduler is None:
        return None
    for name, tensor in given.schedule.items():
        own = getattr(scheduler, name, None)
        if isinstance(own, torch.Tensor) and own.shape == tensor.shape:
            with contextlib.suppress(AttributeError):
                setattr(scheduler, name, tensor.to(own.dtype).clone())
    if given.begin is not None and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(given.begin)
    return scheduler


def replay(recipe: Recipe, given: Loop, agrees, defect=None, receives=None) -> bool:
    """Does each update of a loop, computed again, satisfy `agrees(place, latents)`? Stops at the first that does not.

    `receives(step, scaled)`, where given, must hold for what the scheduler hands to the network before each step.
    `defect(scheduler, step, call, sample)` may take the place of a step: call() makes it and returns the new latents.
    """
    scheduler = started(recipe, given)
    if scheduler is None:
        return False
    known = set(inspect.signature(scheduler.step).parameters)
    with quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        for k, place in enumerate(given.places):
            extra = {name: value for name, value in given.extras[k].items() if name in known}

            def call(k=k, extra=extra, timestep=None, sample=None, scheduler=scheduler):
                t = _element(scheduler, given.timesteps[k] if timestep is None else timestep)
                with _Noise(given.noises[k]):
                    start = given.samples[k] if sample is None else sample
                    return scheduler.step(given.predictions[k], t, start.clone(), **extra, return_dict=False)[0]

            try:
                if receives is not None and not receives(k, _scaled(scheduler, given.samples[k], given.timesteps[k])):
                    return False
                made = call() if defect is None else defect(scheduler, k, call, given.samples[k])
            except Exception:  # noqa: BLE001 - a scheduler that refuses is not what ran
                return False
            if not isinstance(made, torch.Tensor) or made.shape != given.samples[k].shape or not agrees(place, made):
                return False
    return True


def _scaled(scheduler, sample, timestep: float):
    scale = getattr(scheduler, "scale_model_input", None)
    return sample if scale is None else scale(sample.clone(), _element(scheduler, timestep))


def _element(scheduler, timestep: float):
    """The entry of the scheduler's own list with this value, as a loop over it passes on; else a tensor of the value."""
    listed = scheduler.timesteps
    at = (listed.double() == timestep).nonzero()
    return listed[at[0, 0]] if len(at) else torch.tensor(timestep).to(listed.dtype)


class _Noise(TorchFunctionMode):
    """Draws of normal noise return the recorded ones, in order."""

    def __init__(self, noises: list[torch.Tensor]):
        super().__init__()
        self.left = list(noises)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _NORMAL:
            noise = self.left.pop(0)  # more draws than were recorded: not what ran
            return noise if (kwargs or {}).get("dtype") is None else noise.to(kwargs["dtype"])
        return function(*args, **(kwargs or {}))
