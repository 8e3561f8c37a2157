"""`whydiff compare`: two tensors, images, traces, or folders of them."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    reference: Annotated[str, typer.Argument(metavar="A", help="The one taken as right.", show_default=False)],
    candidate: Annotated[str, typer.Argument(metavar="B", help="The one under suspicion.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two tensors, images, traces or folders of them. Uses the noise floor that a trace brings along."""
    from whydiff.errors import existing

    for path in (reference, candidate):
        existing(path)  # before torch is imported
    from whydiff.engine.files import compare_files

    result = compare_files(reference, candidate)
    print(json.dumps(result.to_dict(), indent=1) if as_json else result)
    return 0 if result.verdict in ("same", "within_noise") else 1 if result.verdict == "different" else 2
