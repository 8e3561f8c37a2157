"""Two traces larger than memory may hold, compared from their files: memory beyond the baseline, and speed beside `cat`.

    python tests/bench/streaming.py [--write] [--gib 1] [--folder DIR]

Writes two traces of that size each, which are removed afterwards. The files are put out of the page cache before each cold run.
"""  # fmt: skip

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import save_file
from side_by_side import show, table

SHAPE = (1, 4608, 3072)  # what a block of FLUX puts out at 1024 x 1024
CHILD = """
import sys, threading, time
import torch, whydiff
from whydiff.commands.compare import command
sys.path.insert(0, sys.argv[4])
from side_by_side import resident
big = torch.randn(1 << 22)
whydiff.compare(big, big + 1), whydiff.compare(big, big + 1, deciding=True), command(sys.argv[3], sys.argv[3])
base, most, done = {w: resident(w) for w in ("VmRSS", "RssAnon", "RssFile")}, {"VmRSS": 0, "RssAnon": 0, "RssFile": 0}, False
def watch():
    while not done:
        for what in most:
            most[what] = max(most[what], resident(what))
        time.sleep(0.01)
watching = threading.Thread(target=watch)
watching.start()
start = time.perf_counter()
command(sys.argv[1], sys.argv[2])
taken, done = time.perf_counter() - start, True
watching.join()
print("MEASURED", taken, *(max(0, most[w] - base[w]) for w in most), file=sys.stderr)
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        one, other = (pathlib.Path(folder) / name for name in ("one", "other"))
        number = max(1, round(given.gib * 2**30 / (2 * torch.Size(SHAPE).numel())))
        for path, noise in ((one, 0.0), (other, 1e-2)):
            trace(path, number, noise)
        small = pathlib.Path(folder) / "small"
        trace(small, 0, 0.0)
        size = sum(file.stat().st_size for side in (one, other) for file in side.iterdir())
        rows = []
        for cold in (True, False) if size < 2**33 else (True,):  # more than that does not stay in the page cache
            for name, run in (("*limit: `cat` of the files*", cat), ("**`whydiff compare`**", compared)):
                if cold:
                    put_out(one, other)
                seconds, *memory = run(one, other, small)
                rows.append([f"{name}, {'from the disk' if cold else 'from the page cache'}", f"{size / seconds / 1e9:.2f}",
                             *(f"{m / 2**20:.0f} MiB" for m in memory)])  # fmt: skip
        head = [f"two traces of {size / 2**31:.1f} GiB each", "GB/s", "resident beyond the baseline", "of these anonymous", "pages of the files"]
        show("streaming", table(head, [row + [""] * (5 - len(row)) for row in rows]), given.write)


def trace(folder: pathlib.Path, number: int, noise: float) -> None:
    """`number` outputs of blocks in bfloat16, one file each, and a small tensor."""
    folder.mkdir()
    lines = [{"schema": 1}]
    base = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    changed = (base + noise * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))).bfloat16()
    for k in range(number + 1):
        values = changed.roll(k, 1) if k < number else torch.ones(8)
        save_file({"0": values}, folder / f"tensors-{k:05d}.safetensors")
        lines.append({"probe": "modules", "step": k // 60, "module": f"transformer/blocks.{k % 60}", "shape": list(values.shape),
                      "dtype": str(values.dtype)[6:], "file": f"tensors-{k:05d}.safetensors", "key": "0"})  # fmt: skip
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"complete": True}]))


def put_out(*folders: pathlib.Path) -> None:
    """Out of the page cache, as far as the system does as it is told."""
    for folder in folders:
        for file in folder.iterdir():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def cat(one, other, small) -> list[float]:
    start = time.perf_counter()
    for folder in (one, other):
        with open(os.devnull, "wb") as nothing:
            subprocess.run(["cat", *sorted(map(str, folder.iterdir()))], stdout=nothing, check=True)
    return [time.perf_counter() - start]


def compared(one, other, small) -> list[float]:
    done = subprocess.run([sys.executable, "-c", CHILD, one, other, small, pathlib.Path(__file__).parent],
                          capture_output=True, text=True)  # fmt: skip
    if "MEASURED" not in done.stderr:
        sys.exit(done.stderr)
    return [float(x) for x in done.stderr.split("MEASURED")[1].split()]


if __name__ == "__main__":
    main()
