"""Coverage-guided fuzzing of the readers (atheris): `python tests/fuzz/fuzz.py SECONDS [TARGET...]`, all targets unless some are named.

The first byte of an input chooses the target. Every finding is kept in reports/fuzz/found, one for each place in the code where it
was raised, and the run goes on; what is too slow or too large ends a process, and another goes on. Inputs that reach new code stay
in reports/fuzz/inputs for the next run. What was fixed, cut down, is copied to tests/fuzz/corpus/<target>: `make test` replays it.
"""

import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parents[1] / "reports" / "fuzz"
SLOWEST, MEMORY, LONGEST = 20, 4096, 20_000  # seconds and MB of one input, beyond which it is a finding; its bytes
INSTRUMENTED = ["whydiff.evidence", "whydiff.limits", "whydiff.verdict", "whydiff.engine.files", "zipfile", "tarfile", "numpy.lib",
                "torch._weights_only_unpickler", "ruamel", "sd_parsers"]  # fmt: skip


def main(seconds: int, names: list[str]) -> int:
    """Fuzz for so long in all; a table of what was done. Returns 1 where anything was found."""
    sys.path.insert(0, str(HERE))
    import seeds
    import targets

    names = names or list(targets.TARGETS)
    for folder in ("inputs", "found", "counts"):
        (OUT / folder).mkdir(parents=True, exist_ok=True)
    seeds.write()
    for number, name in enumerate(names):
        for path in (HERE / "corpus" / name).iterdir():
            (OUT / "inputs" / f"{name}-{path.name}").write_bytes(bytes([number]) + path.read_bytes())
    end, processes = time.monotonic() + seconds, 0
    while (left := int(end - time.monotonic())) > 0:
        command = [sys.executable, __file__, "--child", ",".join(names), f"-max_total_time={left}", f"-timeout={SLOWEST}",
                   f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}", f"-dict={HERE / 'words.dict'}", f"-artifact_prefix={OUT / 'found'}/",
                   str(OUT / "inputs")]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        processes += 1
        if "Running" not in done.stderr:
            sys.exit(done.stderr[-3000:])
    return _told(names, seconds, processes)


def _told(names: list[str], seconds: int, processes: int) -> int:
    counts: collections.Counter = collections.Counter()
    for path in (OUT / "counts").glob("*.json"):
        counts.update(json.loads(path.read_text()))
        path.unlink()
    found = sorted(path.name for path in (OUT / "found").iterdir() if not path.name.endswith(".txt") and not path.name.startswith("slow-unit"))
    for name in names:
        print(f"{name:16} {counts[name]:9,} executions, of which {counts[name + ' read']:9,} were read and {counts[name + ' refused']:9,} refused")
    print(f"{'all':16} {sum(counts[name] for name in names):9,} executions in {seconds} s and {processes} processes, {len(found)} findings")
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


def child(names: list[str], arguments: list[str]) -> None:
    """Fuzz in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import targets
    os.environ.setdefault("WHYDIFF_MOST_UNPACKED_BYTES", "3e7")  # a gigabyte of black pixels is no finding, and takes long
    counts: collections.Counter = collections.Counter()
    kept = OUT / "counts" / f"{time.time_ns()}.json"
    seen: dict[str, int] = {}

    def once(data: bytes) -> None:
        name = names[data[0] % len(names)] if data else names[0]
        counts[name] += 1
        try:
            counts[f"{name} {'read' if targets.run(name, data[1:]) else 'refused'}"] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = re.sub(r"[^\w.-]", "_", f"{name}-{type(error).__name__}-{pathlib.Path(frame.filename).stem}-{frame.lineno}")
            if len(data) < seen.get(what, 1 << 30):  # the shortest that does it
                seen[what] = len(data)
                (OUT / "found" / what).write_bytes(data[1:])
                (OUT / "found" / f"{what}.txt").write_text(traceback.format_exc())
        if counts[name] % 50 == 0:  # libFuzzer ends the process without a word
            kept.write_text(json.dumps(counts))

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        sys.path.insert(0, str(HERE))
        child(sys.argv[2].split(","), sys.argv[3:])
    else:
        sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
