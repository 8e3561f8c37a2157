"""`whydiff causes`: which causes it can name."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the causes it can name: id, stage, probes, meaning, parameters, ids that tensors cannot tell apart."""
    from whydiff.causes.table import CAUSES

    if as_json:
        print(json.dumps([kind.to_dict() for kind in CAUSES], indent=1))
        return
    width = max(len(kind.id) for kind in CAUSES)
    stage = None
    for kind in CAUSES:
        if kind.stage != stage:
            print(f"{'' if stage is None else chr(10)}{kind.stage}")
            stage = kind.stage
        print(f"  {kind.id:{width}}  {kind.meaning}")
        about = [f"seen at {', '.join(kind.probes)}"]
        about += [f"parameters: {', '.join(kind.parameters)}"] if kind.parameters else []
        about += [f"cannot be told from: {', '.join(kind.equivalent)}"] if kind.equivalent else []
        print(f"  {'':{width}}    {'; '.join(about)}")
