"""How a side's scheduler is made: class, configuration, arguments. Built again from these three, it shows what it computes.

The side's own object is never used: what was patched onto it would come along. What a rebuilt scheduler does not
reproduce, the side does not do by its configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import logging

import numpy as np
import torch

from whydiff.measure.compare import relative_l2
from whydiff.places import Place

SCHEDULE = ("sigmas", "timesteps", "alphas_cumprod")
ROUNDING = 1e-6  # relative L2 between two float32 lists of one formula


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A scheduler's class, its configuration, and the arguments of `set_timesteps`."""

    kind: type
    config: dict
    arguments: dict

    def with_config(self, **values) -> Recipe:
        return dataclasses.replace(self, config=self.config | values)

    def with_arguments(self, **values) -> Recipe:
        return dataclasses.replace(self, arguments=self.arguments | values)

    def with_kind(self, kind: type) -> Recipe:
        return dataclasses.replace(self, kind=kind)

    @property
    def name(self) -> str:
        return self.kind.__name__

    def default(self, key: str):
        """What the class takes for a key that nobody gives; None where it does not know the key."""
        parameter = inspect.signature(self.kind.__init__).parameters.get(key)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default

    def build(self):
        """The scheduler with its timesteps set, or None where class, configuration and arguments do not go together."""
        known = set(inspect.signature(self.kind.set_timesteps).parameters)
        given = {k: v for k, v in self.arguments.items() if k in known and v is not None}
        arrays = {k: np.asarray(v) if isinstance(v, list) else v for k, v in given.items()}
        with quiet():
            for arguments_ in (given, arrays):  # pipelines pass lists or arrays, and some schedulers take only one of them
                with contextlib.suppress(Exception):  # any refusal means that this combination is not what ran
                    scheduler = self.kind.from_config({k: v for k, v in self.config.items() if not k.startswith("_")})
                    scheduler.set_timesteps(**arguments_)
                    return scheduler
        return None

    def schedule(self) -> dict[str, torch.Tensor]:
        """{probe: (N,) tensor} as the recorder sees them after `set_timesteps`; empty where it cannot be built."""
        return lists_of(self.build())


def lists_of(scheduler) -> dict[str, torch.Tensor]:
    found = {name: getattr(scheduler, name, None) for name in SCHEDULE}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def recipe(lab, role: str) -> Recipe | None:
    """How the scheduler of a side is made, from the live side or from what its trace tells; None without a public class."""
    side, trace = lab.sides[role], latest(lab, role)
    if trace is None:
        return None
    live = getattr(side.subject, "scheduler", None) if side is not None else None
    if live is not None:
        kind, config = public_class(type(live)), dict(getattr(live, "config", None) or {})
    else:
        told = lab.component_config(role, "scheduler")
        kind, config = (None, {}) if told is None else (named_class(told[0]), told[1])
    if kind is None:
        return None
    return Recipe(kind, config, arguments(trace))


def latest(lab, role: str):
    """The newest run that shows what a side itself does: the last forced run of the patient, else its trace."""
    return lab.last_forced if role == lab.patient and lab.last_forced is not None else lab.traces[role]


def arguments(trace) -> dict:
    """The arguments of `set_timesteps` as recorded; otherwise the number of steps, from the length of the lists."""
    calls = trace.producer.get("calls")
    noted = calls.get("set_timesteps") if isinstance(calls, dict) else None
    if isinstance(noted, dict):
        return dict(noted)
    timesteps = trace.get("timesteps")
    return {} if timesteps is None else {"num_inference_steps": timesteps.numel()}


def public_class(kind: type) -> type | None:
    """The class itself if it is a public one, else the nearest public one that it derives from, or is named after.

    A copy that was changed may keep name and module: public is only the very class that its module holds.
    """
    derived = next((k for k in kind.__mro__ if k in public_classes().values()), None)
    return derived or named_class(kind.__name__)


def named_class(name: str) -> type | None:
    """The public scheduler class of a name, whatever stands before it; nothing else is imported, whatever a trace says."""
    return public_classes().get(name.rpartition(".")[2])


def public_classes() -> dict[str, type]:
    """{name: class} of the installed schedulers that set timesteps and step on (model_output, timestep, sample)."""
    if not _CLASSES:
        with contextlib.suppress(ImportError):
            home = importlib.import_module("diffusers.schedulers")
            for name in dir(home):
                if not name.endswith("Scheduler"):
                    continue
                with contextlib.suppress(Exception):  # classes whose dependencies are missing refuse to be looked at
                    kind = getattr(home, name)
                    given = inspect.signature(kind.step).parameters
                    if {"model_output", "timestep", "sample"} <= set(given) and hasattr(kind, "set_timesteps"):
                        _CLASSES[name] = kind
    return _CLASSES


_CLASSES: dict[str, type] = {}


def observed(lab, role: str) -> dict[str, torch.Tensor]:
    """What a side itself put into its schedule: {probe: tensor}."""
    found = {name: lab.own_value(role, Place(name)) for name in SCHEDULE}
    return {name: value for name, value in found.items() if value is not None}


def agree(made: dict[str, torch.Tensor], seen: dict[str, torch.Tensor], probes=None) -> bool:
    """Do a rebuilt schedule and an observed one agree at every probe of the observed one (or of `probes`)?"""
    names = [name for name in (probes or seen) if name in seen]
    return bool(names) and all(name in made and same_list(made[name], seen[name]) for name in names)


def same_list(a: torch.Tensor, b: torch.Tensor) -> bool:
    """One list but for the last digits; integers must be equal."""
    if a.shape != b.shape or not bool(a.isfinite().all() and b.isfinite().all()):
        return False
    if not (a.is_floating_point() and b.is_floating_point()):
        return torch.equal(a.double(), b.double())
    return relative_l2(b, a) <= ROUNDING


@contextlib.contextmanager
def quiet():
    """Schedulers warn about combinations that an experiment tries on purpose."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
