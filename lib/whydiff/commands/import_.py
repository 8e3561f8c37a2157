"""`whydiff import`: another tool's dump as a trace."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    source: Annotated[str, typer.Argument(help="The dump: a file or a folder.", show_default=False)],
    out: Annotated[str, typer.Option("--out", metavar="TRACE", help="The folder to write.", show_default=False)],
    format: Annotated[str | None, typer.Option("--format", metavar="NAME", help="sglang, fastvideo, comfyui, picture or folder; guessed if not "
                      "given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Turn another tool's dump into a trace, which a case can name as a side's evidence."""
    from whydiff.errors import existing
    from whydiff.evidence.traces.new_folder import new_folder, refuse_filled

    existing(source)  # before torch is imported
    refuse_filled(out)
    from whydiff.evidence.readers import import_dump

    trace = import_dump(source, format)
    with new_folder(out) as folder:
        trace.save(folder)
    notes = trace.producer.get("notes", [])
    if as_json:
        print(json.dumps({"trace": out, "format": trace.producer["format"], "tensors": len(trace.places), "steps": trace.steps,
                          "probes": trace.probes(), "settings": trace.settings, "notes": notes}, indent=1))  # fmt: skip
        return
    print(f"{out}: {len(trace.places)} tensors of {trace.steps} steps, read as {trace.producer['format']}")
    print(f"probes: {', '.join(trace.probes()) or 'none'}")
    if trace.settings:
        print("settings: " + ", ".join(f"{key}={value}" for key, value in trace.settings.items()))
    for note in notes:
        print(f"note: {note}")
