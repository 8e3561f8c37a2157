"""What recording costs: the tiny FLUX with nothing recorded, with all probes, and with every module of its transformer.

    OMP_NUM_THREADS=1 python tests/bench/recorder_cost.py
"""  # fmt: skip

import pathlib
import sys
import tempfile
import time
import timeit

import torch

from whydiff import tap
from whydiff.evidence.recording.standalone import record
from whydiff.evidence.traces.tensor_files import tensor_sha256
from whydiff.evidence.traces.trace import tensor_stats
from whydiff.measure.sketches import sketch_of

RUNS = 5  # of each, of which the fastest counts: others use the machine, too
CALL = {"height": 192, "width": 256, "num_inference_steps": 8, "max_sequence_length": 16}
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "data" / "cases"))


def main():
    import sides

    elements = torch.randn(1 << 22)
    for name, work in (("sha256", tensor_sha256), ("figures", tensor_stats), ("sketch", sketch_of)):
        print(f"{name}: {1e9 * min(timeit.repeat(lambda work=work: work(elements), number=1, repeat=RUNS)) / len(elements):.0f} ns for each element")
    print(f"a tap that nobody hears: {timeit.timeit(lambda: tap('latents', elements, step=1), number=10**6):.2f} µs")
    pipe = sides.reference()
    off = fastest(pipe)
    print(f"nothing recorded: {off:.2f} s")
    for options in ({}, {"level": "fingerprint"}, {"modules": ["transformer/*"]}, {"modules": ["transformer/*"], "level": "fingerprint"}):
        taken, size = fastest(pipe, options)
        print(f"{options or 'all probes'}: {taken / off:.2f} times as long, {size / 1e6:.1f} MB")


def fastest(pipe, options=None):
    """Seconds of the fastest run; with `options` recorded, and the bytes that it wrote."""
    times, size = [], 0
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            if options is None:
                pipe("two blue squares", generator=torch.Generator().manual_seed(0), **CALL)
            else:
                with record(pipe, folder, **options):
                    pipe("two blue squares", generator=torch.Generator().manual_seed(0), **CALL)
            times.append(time.perf_counter() - start)
            size = sum(file.stat().st_size for file in pathlib.Path(folder).iterdir())
    return min(times) if options is None else (min(times), size)


if __name__ == "__main__":
    main()
