"""`whydiff recorder`: the recorder in one file, for programs in environments without whydiff."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write it.", show_default=False)] = "whydiff_tap.py",
) -> None:
    """Write the recorder as one file that needs torch alone: `from whydiff_tap import tap`, or python -m whydiff_tap PROGRAM."""
    from whydiff.evidence.recording.one_file import written

    path = written(file)
    print(f"{path}: copy it beside the program, then WHYDIFF_RECORD=FOLDER python -m whydiff_tap PROGRAM.py; see docs/record_anywhere.md")
