"""`whydiff bundle`: what one attaches to an issue."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from whydiff.commands.progress import progress

_WORDS = {"report.md": "to paste into the issue", "report.html": "the report", "case.yaml": "whydiff diagnose case.yaml, from the fingerprints",
          "verdict.json": "the verdict", "settings.json": "what each side was told", "environment.json": "versions and devices"}  # fmt: skip


def command(
    source: Annotated[str, typer.Argument(metavar="CASE_OR_REPORT", help="A case (a YAML file), which is diagnosed first; or the folder that "
                      "--out of investigate or diagnose wrote.", show_default=False)],
    out: Annotated[str, typer.Option("--out", metavar="FILE.zip", help="The file to write.", show_default=False)],
) -> None:  # fmt: skip
    """Make the zip to attach to an issue: verdict, report, settings, environment, fingerprints; no weights, no paths, no variables."""
    from whydiff.bundle import bundle

    with progress() as said:
        members = bundle(source, out, said)
    folders: dict[str, int] = {}
    for name, size in members:
        key = name if "/" not in name else name.rpartition("/")[0] + "/"
        folders[key] = folders.get(key, 0) + size
    for name, size in folders.items():
        words = _WORDS.get(name, "fingerprints of that side" if name.startswith("traces/") else "")
        print(f"{name:20} {size / 1024:8.1f} kB  {words}")
    print(f"{out}: {pathlib.Path(out).stat().st_size / 1024:.0f} kB. Prompts and pictures are in it; read report.md before you send it.")
