"""`whydiff defaults`: what a framework uses when nothing is specified."""

from __future__ import annotations

from typing import Annotated

import typer

from whydiff.errors import Trouble


def command(
    framework: Annotated[str | None, typer.Argument(metavar="[FRAMEWORK[==VERSION]]", show_default=False,
                         help="sglang==0.5.8, fastvideo, diffusers; left out: what is known. A model alone: every framework "
                              "that knows it.")] = None,
    model: Annotated[str | None, typer.Argument(help="FLUX.1-dev, Wan2.2-T2V-A14B, ...; left out: the models and versions known.",
                     show_default=False)] = None,
    against: Annotated[str | None, typer.Option(metavar="FRAMEWORK[==VERSION]", help="Compare with another version or framework: "
                       "what differs, each with its source. Exit status 1 if anything does.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare the entries (of MODEL, or all) with the FRAMEWORK installed here; "
                     "diffusers unless given. Exit status 1 if one differs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:  # fmt: skip
    """What FRAMEWORK uses for MODEL when nothing is specified, each value with its source."""
    from whydiff.commands import defaults_print as show

    if check:
        if against:
            raise Trouble("--check compares with what is installed, --against with another entry. Give one of them.")
        return show.checked(framework or "diffusers", model, as_json)
    if framework is None:
        if against:
            raise Trouble("--against needs FRAMEWORK[==VERSION] and MODEL before it.")
        return show.everything(as_json)
    name, version = split(framework)
    if model is None:
        return _one_name(show, name, version, against, as_json)
    from whydiff.evidence.surroundings.defaults import framework_called

    framework_called(name)
    return show.two(name, version, *split(against), model, as_json) if against else show.one(name, version, model, as_json)


def split(framework: str) -> tuple[str, str | None]:
    """("sglang", "0.5.8") of "sglang==0.5.8"; ("sglang", None) of "sglang"."""
    name, _, version = framework.partition("==")
    if not name or (not version and "==" in framework):
        raise Trouble(f"{framework!r} is not FRAMEWORK[==VERSION]. Write sglang==0.5.8, or sglang for the newest known.")
    return name.strip(), version.strip() or None


def _one_name(show, name: str, version: str | None, against: str | None, as_json: bool) -> int:
    """`whydiff defaults sglang` lists its models; `whydiff defaults FLUX.1-dev` asks every framework that knows it."""
    from whydiff.evidence.surroundings.defaults import atlas, framework_called, model_called

    if version is None and against is None and model_called(name) in atlas().models:
        return show.across(model_called(name), as_json)
    known = framework_called(name)
    if version is not None or against is not None:
        raise Trouble(f"give a MODEL too: whydiff defaults {name}{f'=={version}' if version else ''} MODEL. `whydiff defaults {name}` "
                      "lists those known.")  # fmt: skip
    return show.framework(known, as_json)
