"""How long the command takes to answer, beside Python alone and the library that reads its arguments. Taken in turn.

    python tests/bench/start.py [--write]
"""  # fmt: skip

import os
import pathlib
import statistics
import subprocess
import sys
import time

from written import write_section

ROUNDS = 15
COMMANDS = {"`python -c pass`": ["-c", "pass"], "`python -c 'import typer'`": ["-c", "import typer"],
            "`whydiff --help`": ["-m", "whydiff.cli", "--help"], "`whydiff diagnose --help`": ["-m", "whydiff.cli", "diagnose", "--help"],
            "`whydiff causes`": ["-m", "whydiff.cli", "causes"], "`python -c 'import torch'`": ["-c", "import torch"]}  # fmt: skip


def main():
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[2] / "lib")}
    times = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, words in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - start)
    lines = ["| | fastest, s | median, s |", "|---|---|---|"]
    lines += [f"| {name} | {min(taken):.2f} | {statistics.median(taken):.2f} |" for name, taken in times.items()]
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("start", "\n".join(lines))


if __name__ == "__main__":
    main()
