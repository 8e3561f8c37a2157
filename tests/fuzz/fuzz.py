"""Coverage-guided fuzzing of the readers (atheris): `python tests/fuzz/fuzz.py SECONDS [TARGET...]`, SECONDS for each target.

Every finding is kept as reports/fuzz/found/<target>-<what>, one for each place in the code where it was raised; a run goes on after
one. Inputs that reach new code stay in reports/fuzz/<target> for the next run. Copy what was fixed, cut down by hand or by
`-minimize_crash=1`, to tests/fuzz/corpus/<target>, which `make test` replays.
"""

import hashlib
import pathlib
import re
import subprocess
import sys
import traceback

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parents[1] / "reports" / "fuzz"
SLOWEST, MEMORY, LONGEST = 10, 4096, 20_000  # seconds and MB of one input, beyond which it is a finding; its bytes


def main(seconds: int, names: list[str]) -> int:
    """Fuzz each target in a process of its own; a table of what was done. Returns 1 where anything was found."""
    sys.path.insert(0, str(HERE))
    import seeds
    import targets

    seeds.write()
    total, bad = 0, 0
    for name in names or targets.TARGETS:
        own, found = OUT / name, OUT / "found"
        own.mkdir(parents=True, exist_ok=True)
        found.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--one", name, f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}",
                   f"-max_len={LONGEST}", f"-dict={HERE / 'words.dict'}", f"-artifact_prefix={found}/{name}-", "-print_final_stats=1",
                   str(own), str(HERE / "corpus" / name)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        runs = int((re.findall(r"number_of_executed_units: (\d+)", done.stderr) or ["0"])[-1])
        kept = sorted(path.name for path in found.glob(f"{name}-*"))
        total, bad = total + runs, bad + len(kept)
        print(f"{name:16} {runs:9,} executions in {seconds} s, {len(kept)} findings {' '.join(kept)}", flush=True)
        if not runs:
            print(done.stderr[-2000:])
    print(f"{'all':16} {total:9,} executions, {bad} findings")
    return 1 if bad else 0


def one(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["whydiff", "zipfile", "tarfile", "numpy.lib", "torch._weights_only_unpickler", "ruamel", "sd_parsers"]):
        import targets
    seen = {}

    def once(data: bytes) -> None:
        try:
            targets.run(name, data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}-{pathlib.Path(frame.filename).stem}-{frame.lineno}"
            if len(data) < seen.get(what, 1 << 30):  # the shortest that does it
                seen[what] = len(data)
                (OUT / "found" / f"{name}-{what}").write_bytes(data)
                (OUT / f"{name}-{what}.txt").write_text(f"{hashlib.sha256(data).hexdigest()}\n{traceback.format_exc()}")

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        sys.path.insert(0, str(HERE))
        one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
