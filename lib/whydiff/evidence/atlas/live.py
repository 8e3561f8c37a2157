"""Entries of the atlas beside the code that is installed here.

`check` in an entry names the live place: `FluxPipeline.__call__(guidance_scale)` is a default in a signature, looked up in
diffusers (or, where the name begins with `diffusers.`, in that module); the names in `_RUN` run a small part of diffusers.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import math
import re
from typing import Any

from whydiff.errors import Trouble
from whydiff.evidence.atlas.entries import Entry, Framework
from whydiff.evidence.atlas.versions import position

AGREES, DIFFERS, UNCHECKED = "agrees", "differs", "cannot be checked"


@dataclasses.dataclass(frozen=True)
class Check:
    """`outcome` is `AGREES`, `DIFFERS` or `UNCHECKED`; `why` has the live value, or what stands in the way."""

    entry: Entry
    outcome: str
    why: str


def installed_version(framework: Framework) -> str | None:
    """The version installed here, None if it is not."""
    try:
        return importlib.metadata.version(framework.name.lower())
    except importlib.metadata.PackageNotFoundError:
        return None


def check_entries(framework: Framework, entries: list[Entry] | None = None) -> list[Check]:
    """Every entry compared with the installed package. Raises Trouble if that is not installed."""
    version = installed_version(framework)
    if version is None:
        raise Trouble(f"{framework.name} is not installed here, so that nothing can be checked against it.")
    return [_check(framework, entry, version) for entry in (framework.entries if entries is None else entries)]


def _check(framework: Framework, entry: Entry, version: str) -> Check:
    if not entry.check:
        return Check(entry, UNCHECKED, "their entries name no default in installed code")
    at = position(framework.versions, version)
    first, last = framework.span(entry)
    if at is None or not first <= at:
        return Check(entry, UNCHECKED, f"{version} is installed, the entry begins with {entry.first}")
    try:
        live = _RUN[entry.check]() if entry.check in _RUN else signature_default(entry.check)
    except (AttributeError, KeyError, ImportError, TypeError, ValueError) as error:
        return Check(entry, UNCHECKED, f"{entry.check} is not in {version} ({type(error).__name__})")
    agrees = _equal(live, entry.value)
    if last < at and not agrees:
        return Check(entry, UNCHECKED, f"{version} is installed and has {live!r}, the entry ends with {entry.last}")
    return Check(entry, AGREES if agrees else DIFFERS, f"{version} has {live!r}")


def signature_default(place: str) -> Any:
    """The default of one parameter, from `Class.method(parameter)` or `module.function(parameter)`.

    Raises AttributeError, ImportError, KeyError or ValueError for what is not there; ValueError too for a parameter without one.
    """
    match = re.fullmatch(r"([\w.]+)\((\w+)\)", place)
    if match is None:
        raise ValueError(f"{place!r} is not Class.method(parameter)")
    path, parameter = match.groups()
    module, _, rest = path.rpartition(".") if path.startswith("diffusers.") else ("diffusers", "", path)
    found = importlib.import_module(module)
    for part in rest.split("."):
        found = getattr(found, part)
    default = inspect.signature(found).parameters[parameter].default
    if default is inspect.Parameter.empty:
        raise ValueError(f"{place} has no default")
    return list(default) if isinstance(default, tuple) else default


def _unipc_grid(steps: int = 27) -> str:
    """Which of our grids the installed UniPC scheduler walks, at a shift of 1 so that only the grid shows.

    float32 sigmas round at 6e-8; the first differs by the 1e-6 that diffusers holds it below 1, which grid_sigmas knows.
    """
    from diffusers import UniPCMultistepScheduler

    from whydiff.formulas.schedule import GRIDS, grid_sigmas

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas[:steps].tolist()
    for name in GRIDS:
        if all(math.isclose(a, b, abs_tol=1e-7) for a, b in zip(sigmas, grid_sigmas(name, steps), strict=True)):
            return name
    return "no grid of ours"


def _flux_size() -> int:
    """Height and width that FLUX takes for None. A pipeline without weights knows it; its VAE then counts as one of 8 pixels."""
    from diffusers import FluxPipeline

    names = [name for name in inspect.signature(FluxPipeline.__init__).parameters if name != "self"]
    bare = FluxPipeline(**dict.fromkeys(names))
    return bare.default_sample_size * bare.vae_scale_factor


_RUN = {"unipc grid": _unipc_grid, "flux size": _flux_size}


def _equal(live: Any, value: Any) -> bool:
    return type(live) in (int, float) and type(value) in (int, float) and live == value or (type(live), live) == (type(value), value)
