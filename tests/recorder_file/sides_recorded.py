"""The tiny FLUX pipelines of the cases, recorded once each and kept at both levels."""

import pathlib

from whydiff.engine.api import study
from whydiff.engine.recording import record_side
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.reading import read_trace

SIDES = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases" / "sides.py"
CALL = {"prompt": "two blue squares on black", "height": 96, "width": 128, "num_inference_steps": 3, "max_sequence_length": 16, "seed": 0}


def record(folder, name, side="port", floor=False, **build):
    """`folder/name` whole and `folder/name_prints` as fingerprints."""
    record_side(f"{SIDES}:{side}", folder / name, build=build, call=CALL, floor=floor)
    read_trace(folder / name).save(folder / f"{name}_prints", "fingerprint")


def verdict(folder, reference, candidate, **more):
    """Of two recordings in a folder; `more` are further keys of the candidate."""
    return study(make_case({"reference": {"trace": str(folder / reference)}, "candidate": {"trace": str(folder / candidate), **more}})).verdict
