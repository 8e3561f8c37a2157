"""`whydiff defaults`: what a framework uses when nothing is specified."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from whydiff.errors import Trouble


def command(
    framework: Annotated[str, typer.Argument(metavar="FRAMEWORK[==VERSION]", help="sglang==0.5.8, fastvideo, diffusers.",
                         show_default=False)],
    model: Annotated[str, typer.Argument(help="FLUX.1-dev, Wan2.2-T2V-A14B, ...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """What FRAMEWORK uses for MODEL when nothing is specified, each value with its source."""
    from whydiff.evidence.defaults import defaults_of, known_version

    name, _, version = framework.partition("==")
    if not name or (not version and "==" in framework):
        raise Trouble(f"{framework!r} is not FRAMEWORK[==VERSION]. Write sglang==0.5.8, or sglang for the newest known.")
    facts = defaults_of(name, version or None, model)
    used = known_version(name, version or None, model)
    if version and used != version:
        typer.echo(f"whydiff: {name} {version} was not looked at; these are the values of {used}, the newest one not later.",
                   err=True)  # fmt: skip
    if as_json:
        print(json.dumps([dataclasses.asdict(fact) for fact in facts], indent=1, ensure_ascii=False))
        return
    print(f"{name} {used}, {model}: {len(facts)} settings that take effect when nothing is specified")
    width = max((len(fact.key) for fact in facts), default=0)
    for fact in facts:
        print(f"  {fact.key:{width}}  {fact.value}")
        print(f"  {'':{width}}    {fact.source}{f' ({fact.note})' if fact.note else ''}")
