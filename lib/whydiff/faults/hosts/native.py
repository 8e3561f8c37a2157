"""The native port of Flux in data/cases, imported from there: it is no part of the package."""

from __future__ import annotations

import sys

from whydiff.evidence.surroundings.defaults import data_folder
from whydiff.faults.hosts.parts import models


def native_flux(**options):
    """data/cases/native_flux's pipeline on tiny-flux; healthy without options."""
    folder = str(data_folder("cases"))
    sys.path.insert(0, folder)
    try:
        from native_flux import NativeFluxPipeline
    finally:
        sys.path.remove(folder)
    return NativeFluxPipeline(models() / "tiny-flux", **options)
