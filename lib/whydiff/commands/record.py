"""`whydiff record`: run one side and keep what it shows."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from whydiff.commands.arguments import key_values
from whydiff.commands.progress import progress


def command(
    entry: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="Called as FUNCTION(**build); returns a pipeline, or a "
                     "callable.", show_default=False)],
    out: Annotated[str, typer.Option("--out", metavar="TRACE", help="The folder to write.", show_default=False)],
    build: Annotated[list[str] | None, typer.Option("--build", metavar="KEY=VALUE", help="An argument of FUNCTION.",
                     show_default=False)] = None,
    call: Annotated[list[str] | None, typer.Option("--call", metavar="KEY=VALUE", help="An argument of what FUNCTION returns: "
                    "prompt=..., seed=0.", show_default=False)] = None,
    modules: Annotated[list[str] | None, typer.Option("--modules", metavar="GLOB", help="Also record these modules' outputs: "
                       "'transformer/*'.", show_default=False)] = None,
    level: Annotated[str, typer.Option("--level", metavar="LEVEL", help="full, or fingerprint: a sketch of a few kB of each large "
                     "tensor.")] = "full",
    no_floor: Annotated[bool, typer.Option("--no-floor", help="Do not run it again to measure its noise floor.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Run one side and record a trace, and the noise floor of that side with it."""
    arguments = {"build": key_values(build, "--build"), "call": key_values(call, "--call")}
    from whydiff.evidence.case import entry_file
    from whydiff.evidence.traces.new_folder import refuse_filled

    entry_file(entry, "reference")  # before torch is imported
    refuse_filled(out)
    from whydiff.engine.recording import record_side

    with progress() as said:
        trace = record_side(entry, out, modules=modules or [], floor=not no_floor, level=level, said=said, **arguments)
    if as_json:
        print(json.dumps({"trace": out, "tensors": len(trace), "steps": trace.steps, "probes": trace.probes(),
                          "floor": trace.floor, "producer": trace.producer}, indent=1))  # fmt: skip
        return
    print(f"{out}: {len(trace)} tensors of {trace.steps} steps by {trace.producer.get('name', entry)}")
    print(f"probes: {', '.join(trace.probes())}")
    if trace.floor:
        print(f"noise floor: {max(trace.floor.values()):.2g} at most ({max(trace.floor, key=trace.floor.get)})")
