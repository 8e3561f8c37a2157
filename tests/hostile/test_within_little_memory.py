"""Files that would take terabytes are refused by a process that is allowed four gigabytes."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import torch

CODE = """
import os, resource, sys
os.environ["WHYDIFF_MOST_UNPACKED_BYTES"] = "1e8"
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from whydiff.cli import run
for name in sys.argv[1:]:
    print(name, run(["diagnose" if name.endswith(("yaml", "b.zip")) else "compare", *([name] if name.endswith(("yaml", "b.zip")) else [name, name])]))
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
MEGABYTE = 1 << 20


def test_what_would_take_terabytes_is_refused_in_four_gigabytes(tmp_path):
    held = io.BytesIO()
    np.save(held, np.ones(3))
    (tmp_path / "a.npy").write_bytes(held.getvalue().replace(b"(3,), }          ", b"(99999999999,), }")[: len(held.getvalue())])
    torch.save(torch.ones(1).expand(10**7, 10**6), tmp_path / "b.pt")
    entry = {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}
    text = json.dumps({"x": entry}).encode()
    (tmp_path / "c.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("trace.jsonl", "w") as member:
        for _ in range(200):  # 200 MB of one line, and 100 are allowed below
            member.write(b" " * MEGABYTE)
    info = tarfile.TarInfo("t/trace.jsonl")
    info.size = 10**15  # of which nothing follows
    (tmp_path / "e.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240)
    (tmp_path / "f.yaml").write_text("a: &a [x, x, x]\n" + "".join(f"k{i}: &k{i} [{', '.join([f'*{p}'] * 9)}]\n" for i, p in enumerate(
        ["a", *(f"k{i}" for i in range(20))])))  # fmt: skip
    names = [str(tmp_path / name) for name in ("a.npy", "b.pt", "c.safetensors", "d.zip", "e.tar", "f.yaml")]
    done = subprocess.run([sys.executable, "-c", CODE, *names], capture_output=True, text=True, timeout=200, check=False)
    rows = done.stdout.split("\n")
    assert rows[:6] == [f"{name} 2" for name in names], done.stdout + done.stderr
    assert done.stderr.count("\n") == 6 and "internal error" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert int(rows[6].split()[1]) < 2500  # MB, of which torch takes some hundreds
