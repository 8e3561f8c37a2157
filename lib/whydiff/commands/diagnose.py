"""`whydiff diagnose`: the evidence and the verdict, without notebooks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from whydiff.commands.arguments import key_values
from whydiff.commands.progress import progress


def command(
    case: Annotated[str, typer.Argument(help="The case: a YAML file, such as data/cases/flux_port.yaml, or a bundle.", show_default=False)],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the case: "
                        "candidate.build.shift=3. May be repeated.", show_default=False)] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Also write verdict.json and traces there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict.json.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs of which side it would take.")] = False,
    budget: Annotated[int | None, typer.Option("--budget", metavar="RUNS", min=1, help="Use no more runs than this: the best "
                      "verdict within them, and what more would tell.")] = None,
    apart: Annotated[bool | None, typer.Option("--one-at-a-time/--both-in-memory", help="Whether the sides share the memory; by "
                     "itself one at a time where both do not fit. Then modules are not looked into.", show_default=False)] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that a case from a bundle names. Read it first.")] = False,
) -> int:  # fmt: skip
    """Why do the two sides of CASE differ? The verdict alone, in seconds."""
    from whydiff.evidence.case import load_case
    from whydiff.evidence.case_bundle import case_file

    with case_file(case, trust) as path:
        loaded = load_case(path, key_values(settings, "--set"))  # before torch is imported: what is wrong with a case is said at once
        loaded.refuse_missing()
        return _dry_run(loaded, as_json) if dry_run else _diagnose(loaded, out, as_json, budget, apart)


def _diagnose(loaded, out: str | None, as_json: bool, budget: int | None, apart: bool | None) -> int:
    from whydiff.engine.api import study
    from whydiff.engine.budget import at_most
    from whydiff.engine.expectation import exit_status, shortfall

    with progress() as said:
        with at_most(budget):
            measured = study(loaded, progress=said, apart=apart)
        if out is not None:
            from whydiff.headless import published

            with published(out) as folder:
                measured.save(folder)
    verdict = measured.verdict
    print(verdict.to_json() if as_json else verdict, end="" if as_json else "\n")
    missed = shortfall(verdict, loaded.expect)
    if missed:
        typer.echo(f"whydiff: not as expected: {missed}", err=True)
    return exit_status(verdict, loaded.expect)


def _dry_run(case, as_json: bool) -> int:
    from whydiff.engine.budget import planned_runs

    plan = planned_runs(case)
    if as_json:
        print(json.dumps(plan, indent=1))
    else:
        for role in ("reference", "candidate"):
            print(f"{role}: {plan[role]['words']}")
        print(f"and while causes are looked for: {plan['search']}")
    return 0
