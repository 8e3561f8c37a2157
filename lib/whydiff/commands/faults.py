"""`whydiff faults`: plants known bugs into healthy pipelines and counts how often the right cause is named."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated

import typer


def command(
    only: Annotated[list[str] | None, typer.Option("--only", metavar="ID", help="Only this fault, mutation or variation. May "
                    "be repeated.", show_default=False)] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", help="catalogue, mutations, benign, pairs, traces or all. May be "
                     "repeated.", show_default="all; with --only catalogue, mutations and benign")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="How many trials at a time, each on one thread.")] = 1,
    half: Annotated[str | None, typer.Option("--half", metavar="A|B", help="Only this half of the catalogue: causes are developed on A, B is "
                    "only reported.", show_default=False)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Hosts, sides, sites and sizes are drawn from it.")] = 0,
    sample: Annotated[int | None, typer.Option("--sample", min=1, metavar="N", help="At most N trials of each suite.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, metavar="N", help="N trials of each fault, drawn apart.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what was run before by the same code.")] = False,
    out: Annotated[pathlib.Path, typer.Option("--out", metavar="DIR", help="Where results are kept.")] = pathlib.Path("reports/faults"),
    readme: Annotated[pathlib.Path | None, typer.Option("--readme", metavar="FILE", help="Also put the table between the markers "
                      "of this file.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:  # fmt: skip
    """Plant known bugs, and count how often the right cause is named. Exit status 0: all bars met, 1: not, 2: trouble."""
    suites, half = _suites(suite, bool(only)), _half(half)  # before torch is imported
    from whydiff.faults import report
    from whydiff.faults.catalogue import load
    from whydiff.faults.fault import FAULTS
    from whydiff.faults.plan import plans
    from whydiff.faults.run import run, to_stderr
    from whydiff.faults.score import judge, table

    broken = load()
    wanted = plans(suites, seed, only=tuple(only or ()), half=half, sample=sample, repeats=repeats)
    _check(only or (), wanted)
    records = run(wanted, out / "results.jsonl", jobs=jobs, fresh=fresh, said=to_stderr())
    judged = [judge(record) for record in records]
    planted = set(FAULTS)
    text, missed = report.markdown(judged, seed), report.misses(judged)
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "misses.txt").write_text("\n".join(missed) + "\n", encoding="utf-8")
    (out / "faults.json").write_text(json.dumps(report.to_dict(judged, seed, planted), indent=1), encoding="utf-8")
    if as_json:
        print(json.dumps(report.to_dict(judged, seed, planted), indent=1))
    else:
        print(f"\n{text}\n" + "\n".join(missed))
        if not only and "catalogue" in suites:
            print("\nnot injected:\n" + "\n".join(report.not_injected(planted)))
    if readme is not None:
        report.into_readme(readme, text)
    invalid = [j for j in judged if j.record.get("invalid")]
    for j in invalid:
        typer.echo(f"whydiff: {j.plan['id']}: {j.record['error']}", err=True)
    if broken or invalid:
        return 2
    if only:
        return int(bool(missed))
    return 0 if all(figure.met is not False for figure in table(judged)) else 1


def _half(asked: str | None) -> str | None:
    from whydiff.errors import Trouble

    if asked is not None and asked.upper() not in ("A", "B"):
        raise Trouble(f"--half {asked}: is A or B.")
    return asked.upper() if asked else None


def _suites(asked: list[str] | None, some: bool) -> list[str]:
    from whydiff.errors import Trouble, did_you_mean
    from whydiff.faults.plan import SUITES

    if not asked:
        return ["catalogue", "mutations", "benign"] if some else list(SUITES)
    if "all" in asked:
        return list(SUITES)
    for name in asked:
        if name not in SUITES:
            raise Trouble(f"--suite {name}: unknown.{did_you_mean(name, [*SUITES, 'all'])}")
    return [name for name in SUITES if name in asked]


def _check(only, wanted) -> None:
    """Every id of --only names a trial."""
    from whydiff.errors import Trouble, did_you_mean
    from whydiff.faults.known import KNOWN, NOT_CARRIED

    found = {part for plan in wanted for part in (plan.id, *plan.id.split("+"))}
    for id_ in only:
        if id_ in found:
            continue
        if id_ in KNOWN:
            raise Trouble(f"{id_}: is not injected ({NOT_CARRIED.get(id_, 'no injector yet')}).")
        raise Trouble(f"--only {id_}: no such fault, mutation or variation.{did_you_mean(id_, sorted(found | set(KNOWN)))}")
