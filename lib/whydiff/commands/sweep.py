"""`whydiff sweep`: many cases at once, on this machine or on a cluster."""

from __future__ import annotations

import json
import pathlib
import shlex
from typing import Annotated

import typer


def command(
    sweep: Annotated[str, typer.Argument(help="The sweep: a YAML file, such as data/sweeps/flux_sizes.yaml.", show_default=False)],
    scheduler: Annotated[str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A dask scheduler that is running, such as "
                         "tcp://host:8786; workers of this machine unless given.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Processes on this machine; one for each GPU, or as "
                       "many as cores and memory allow, unless given.", show_default=False)] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where to write; reports/<sweep>/ unless given. What is done "
                   "there already is not run again.", show_default=False)] = None,
    bisect: Annotated[str | None, typer.Option("--bisect", metavar="KEY", help="Find the value of this key of the grid at which the verdict "
                      "flips, in few runs.", show_default=False)] = None,
    junit: Annotated[str | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML, for CI.", show_default=False)] = None,
    notebooks: Annotated[bool, typer.Option("--notebooks", help="Investigate each case with its notebooks, instead of diagnosing it.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what was done before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the cases.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:  # fmt: skip
    """Diagnose every case that SWEEP stands for. Exit status as diff(1): 0 all agree or are as expected, 1 some are not, 2 some
    came to no answer. With --bisect: 0 found, 1 it does not flip."""
    from whydiff.errors import Trouble
    from whydiff.sweep.grid import plan

    if dry_run:
        return _listed(plan(sweep), as_json)
    if scheduler is not None and workers is not None:
        raise Trouble("--workers is for this machine; the workers of --scheduler are there already. Leave one of them out.")
    from whydiff.sweep import sweeping

    folder = out or f"reports/{pathlib.Path(sweep).stem}"
    said = shlex.join(["whydiff", "sweep", _short(sweep), "--out", _short(folder), *(["--bisect", bisect] if bisect else [])])
    with sweeping.prepared(sweep, folder, bisect=bisect, command=said, notebooks=notebooks, junit=junit) as asked:
        try:
            sweeping.run(asked, scheduler=scheduler, workers=workers, fresh=fresh)
        except KeyboardInterrupt:
            typer.echo(f"whydiff: {len(asked.results)} of {len(asked.plan.cases)} cases are done and kept in {folder}; the same command goes on "
                       "from there", err=True)  # fmt: skip
            return 130
    print(json.dumps(_told(asked), indent=1) if as_json else _words(asked, folder))
    return asked.status


def _short(path: str) -> str:
    """A path for the page: pages travel, and home folders are nobody's business."""
    return pathlib.Path(path).name if pathlib.Path(path).is_absolute() else path


def _listed(planned, as_json: bool) -> int:
    """The cases of a sweep, one to a line."""
    if as_json:
        print(json.dumps([{"name": one.name, "settings": one.settings, "expect": one.expect and one.expect.model_dump(exclude_none=True)}
                          for one in planned.cases], indent=1, default=str))  # fmt: skip
        return 0
    for one in planned.cases:
        wanted = one.expect and (one.expect.verdict or "") + (f" {', '.join(one.expect.causes)}" if one.expect.causes else "")
        print(f"{one.name}{f'   expected: {wanted.strip()}' if wanted else ''}")
    print(f"{len(planned.cases)} cases")
    return 0


def _words(asked, folder: str) -> str:
    """What a terminal shows at the end."""
    from whydiff.sweep import findings

    results = asked.results
    counts, axes = findings.counts(results), findings.axes_of(results)
    cases = "1 case" if len(results) == 1 else f"{len(results)} cases"
    lines = [f"{cases}: {counts['agree']} agree, {counts['differ']} differ, {counts['trouble']} without an answer"]
    lines += [f"not as expected: {r.name}: {r.missed}" for r in results if r.missed]
    lines += [f"without an answer: {r.name}: {r.trouble}" for r in results if r.trouble]
    lines += [f"cause {c.id}: {len(c.cases)} of {len(results)}{f', {c.where}' if c.where else ''}" for c in findings.causes(results, axes)]
    if asked.searches:
        lines += [search.word() for search in asked.searches]
    else:
        begins = {key: findings.boundary(results, key, values) for key, values in axes.items()}
        lines += [f"{key}: {words}" for key, words in begins.items() if words]
    return "\n".join([*lines, f"page: {folder}/index.html", f"table: {folder}/results.csv"])


def _told(asked) -> dict:
    from whydiff.sweep import findings

    return {"schema": 1, "title": asked.plan.title, "counts": findings.counts(asked.results), "status": asked.status,
            "bisect": [{"key": s.key, "others": s.others, "flips": s.flips, "runs": len(s.known), "words": s.word()} for s in asked.searches],
            "cases": [{"name": r.name, "settings": r.planned.settings, "verdict": r.verdict or None, "causes": r.causes, "status": r.status,
                       "missed": r.missed, "trouble": r.trouble, "seconds": round(r.seconds, 3), "done_before": r.before, "figures": r.figures,
                       "report": None if r.trouble else str(asked.folder / r.report)} for r in asked.results]}  # fmt: skip
