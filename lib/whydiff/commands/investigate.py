"""`whydiff investigate`: the diagnosis, the notebooks and the report."""

from __future__ import annotations

from typing import Annotated

import typer

from whydiff.commands.arguments import key_values
from whydiff.commands.progress import progress


def command(
    case: Annotated[str, typer.Argument(help="The case: a YAML file, such as data/cases/flux_port.yaml, or a bundle.", show_default=False)],
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where to write; reports/<case>/ unless given.",
                   show_default=False)] = None,
    parameters: Annotated[list[str] | None, typer.Option("-p", "--parameter", metavar="KEY=VALUE", help="A notebook parameter, "
                          "as in papermill. May be repeated.", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the case: "
                        "candidate.build.shift=3. May be repeated.", show_default=False)] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Run only this notebook, with or without its "
                    "number. May be repeated.", show_default=False)] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", metavar="N", min=1, help="Notebooks that run at the same time; as cores and "
                    "memory allow unless given.", show_default=False)] = None,
    kernels: Annotated[str | None, typer.Option("--kernels", metavar="WAY", help="How kernels start: fork (from one process that has "
                       "imported everything; Linux), fresh, or auto. Unless given, as $WHYDIFF_KERNELS says, else auto.",
                       show_default=False)] = None,
    timeout: Annotated[int, typer.Option("--timeout", metavar="SECONDS", min=1, help="The longest a cell may take.")] = 1800,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict.json.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that a case from a bundle names. Read it first.")] = False,
) -> int:  # fmt: skip
    """Diagnose CASE and run the notebooks over it; write verdict.json, report.html, notebooks and traces."""
    overrides, given = key_values(settings, "--set"), key_values(parameters, "-p")
    from whydiff.engine.expectation import exit_status, shortfall
    from whydiff.evidence.case_bundle import case_file
    from whydiff.headless import investigate

    with case_file(case, trust) as path, progress() as said:
        result = investigate(path, out, given, overrides, only or [], jobs, said, timeout=timeout, kernels=kernels)
    verdict = result.verdict
    if as_json:
        print(verdict.to_json(), end="")
    else:
        print(verdict)
        for audit in verdict.audits:
            print(f"audit {audit['name']}: {audit['verdict']}")
        print(f"report: {result.report}")
        print(f"verdict: {result.folder / 'verdict.json'}")
    missed = shortfall(verdict, result.expect)
    if missed:
        typer.echo(f"whydiff: not as expected: {missed}", err=True)
    if result.failures:
        typer.echo(f"whydiff: {'; '.join(result.failures)}", err=True)
        return 2
    return exit_status(verdict, result.expect)
