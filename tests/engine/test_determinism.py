"""The same evidence gives the same verdict, byte for byte, and two live runs give the same words: whatever the number of threads, the
seed of Python's hashes, and the order of a trace's lines."""

import json
import os
import random
import subprocess
import sys

import pytest

BOTH = """
import sys, whydiff
from whydiff.engine.recording import record_side
for level in ("full", "fingerprint"):
    for name, build in (("reference", {}), ("candidate", {"noise_scale": 1.5})):
        if sys.argv[1] == "record":
            record_side("sides.py:port", f"{level}/{name}", build=build, call={"seed": 3}, level=level, floor=True)
    print(whydiff.diagnose(f"{level}.yaml").to_json())
print(whydiff.diagnose("live.yaml").words())
"""
TRACES = "reference: {trace: LEVEL/reference}\ncandidate: {trace: LEVEL/candidate}\n"


def shuffled(folder) -> None:
    """The same trace, its tensors in another order: which is that of no module here, so that it means nothing."""
    for path in folder.glob("*/trace.jsonl"):
        lines = path.read_text().splitlines()
        events = [line for line in lines if "probe" in json.loads(line)]
        others = [line for line in lines if line not in events]
        random.Random(0).shuffle(events)
        path.write_text("\n".join([others[0], *events, *others[1:]]) + "\n")


@pytest.mark.slow
def test_the_verdict_does_not_depend_on_threads_hashes_or_the_order_of_lines(toy):
    for level in ("full", "fingerprint"):
        (toy / f"{level}.yaml").write_text(TRACES.replace("LEVEL", level))
    (toy / "live.yaml").write_text((toy / "toy.yaml").read_text().replace("noise_scale: 1.0", "noise_scale: 1.5"))
    told = []
    for number, do in enumerate(("record", "read")):
        threads = {name: str(1 + number) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED")}
        done = subprocess.run([sys.executable, "-c", BOTH, do], capture_output=True, text=True, env=os.environ | threads, check=False)
        assert done.returncode == 0, done.stderr
        told.append("\n".join(line for line in done.stdout.splitlines() if line != "a side that prints"))
        for level in ("full", "fingerprint"):
            shuffled(toy / level)
    assert '"verdict": "different"' in told[0] and "cause" in told[0]
    assert told[0] == told[1]
