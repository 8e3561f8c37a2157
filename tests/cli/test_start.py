"""What a command imports before it works: a question of help, a typing error or a table must not wait for torch."""

import subprocess
import sys

HEAVY = ("torch", "diffusers", "transformers", "papermill", "matplotlib", "scipy")
SCRIPT = """
import contextlib, io, sys
from whydiff.cli import app, run
names = sorted(command.name for command in app.registered_commands)
lines = [*([name, "--help"] for name in names), *([name, "--no-such-option"] for name in names), ["--version"], ["diagnos"], [],
         ["diagnose", "away.yaml"], ["investigate", "away.yaml"], ["diagnose", CASE, "--set", "candidat.build.x=1"],
         ["diagnose", CASE, "--set", "candidate.live.entry=away.py:make"], ["investigate", CASE, "--set", "reference.live.entry=away.py:make"],
         ["compare", "away.pt", "gone.pt"], ["import", "away", "--out", "t"], ["record", "away.py:make", "--out", "t"],
         ["record", "sides.py:make", "--out", "."], ["bundle", "away.yaml", "--out", "b.zip"], ["bundle", CASE, "--out", "b.tar"],
         ["faults", "--suite", "catalog"], ["faults", "--half", "C"], ["sweep", "away.yaml"],
         ["investigate", CASE, "--only", "nothing"], ["investigate", CASE, "-p", "nothing=1"], ["causes", "--json"],
         ["defaults", "sglang==0.5.8", "FLUX.1-dev"], ["schedule", "--steps", "27"],
         ["schedule", "--steps", "27", "--boundary", "0.875", "--solve", "switch=9"]]
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = run(line)
    loaded = [name for name in HEAVY if name in sys.modules]
    if loaded:
        print(*line, "imported", *loaded)
        break
print("done")
"""


def test_no_command_imports_torch_for_help_a_wrong_line_or_a_table(toy):
    script = f"HEAVY, CASE = {HEAVY}, 'toy.yaml'\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stdout + done.stderr
