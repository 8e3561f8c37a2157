"""whydiff: two implementations of the same diffusion model give different outputs: why?

The map; each room uses only what stands to its left or above it.

    taps, places, errors, limits, verdict   words and plain data, no torch
    measure    formulas                how far apart two tensors are; schedules, noise (pure functions)
    evidence                           running and recording a side: probes, traces, floors, settings, cases
    causes                             which causes can be named, and the experiment that proves each
    engine                             the walk from the first divergence to the verdict
    audits                             one question for each notebook
    report     widgets                 pictures and pages; what one explores with mouse and keyboard in a notebook
    headless   commands                notebooks run by papermill (notebooks, workers, kernels), the zip of a report
                                       (bundle, scrubbed); the command (cli)
    sweep                              many cases at once, on workers by dask
"""

import importlib

from whydiff.errors import Trouble
from whydiff.taps import tap

__version__ = "0.1.0"

# Looked up on first use, so that `import whydiff` (and `tap` in somebody's server) imports no torch.
_PUBLIC = {
    "assert_same": "whydiff.engine.api",
    "compare": "whydiff.measure.compare",
    "diagnose": "whydiff.engine.api",
    "study": "whydiff.engine.api",
    "Case": "whydiff.evidence.case",
    "OnnxModule": "whydiff.evidence.sides.onnx_module",
    "Place": "whydiff.places",
    "Trace": "whydiff.evidence.traces.trace",
    "Verdict": "whydiff.verdict",
    "record": "whydiff.evidence.recording.recorder",
}

__all__ = ["Trouble", "tap", *_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'whydiff' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PUBLIC])
