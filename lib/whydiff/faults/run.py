"""Run trials, `jobs` at a time, and keep each result in a file: what is there, by the same code and seed, is not run again."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

from whydiff.faults.plan import Plan, again

TIMEOUT = 120.0  # seconds of processor time that proving may take, and diagnosing again
ATTEMPTS = 12  # draws of a mutation or pair that shows, before giving up
_NOT_MEASURING = ("faults/catalogue/", "faults/mutations", "faults/benign", "faults/pairs", "faults/score", "faults/report",
                  "faults/right", "faults/known", "commands/", "report/", "audits/", "sweep/")  # fmt: skip


def run(plans: list[Plan], results: pathlib.Path, *, jobs: int = 1, fresh: bool = False,
        said: Callable[[str], None] = lambda text: None) -> list[dict]:  # fmt: skip
    """The records of these plans, in their order: those in `results` (JSON lines) and those run now, which are added.

    A record: `plan` (as a dict), `proof` (see `trial.prove`), then `verdict`, `seconds`, `cpu`, or `error` instead.
    """
    done = {} if fresh else _stored(results)
    finals: dict[str, dict] = {}
    waiting: list[tuple[str, str, Plan, dict]] = []
    for plan in plans:
        _advance(plan.key, plan, done, finals, waiting)
    total, already, started = len(plans), len(finals), time.monotonic()
    said(f"{total} trials, {already} of them done before, seed {plans[0].seed if plans else '-'}")
    if waiting:
        _warm(waiting)
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            for record, key in _worked(waiting, done, finals, jobs):
                file.write(json.dumps(record) + "\n")
                file.flush()
                if key in finals:
                    count, spent = len(finals), time.monotonic() - started
                    left = spent / max(1, count - already) * (total - count)
                    said(f"{count}/{total} ({spent / 60:.1f} min, {left / 60:.1f} to go) {_word(finals[key])}")
    return [finals[plan.key] for plan in plans if plan.key in finals and not finals[plan.key].get("skip")]


def _advance(origin: str, plan: Plan, done: dict, finals: dict, waiting: list) -> None:
    """Follow stored records of a plan's attempts; what is missing waits."""
    while (record := done.get(plan.key)) is not None and record["code"] == fingerprint(plan):
        if not record.get("redraw"):
            finals[origin] = record
            return
        if plan.attempt + 1 >= ATTEMPTS:
            finals[origin] = record | {"error": f"{ATTEMPTS} draws changed nothing"}
            return
        plan = again(plan)
    waiting.append((origin, "prove", plan, {}))


def _worked(waiting: list, done: dict, finals: dict, jobs: int):
    """Yield (record, key of the plan it belongs to) as trials end. A trial is proved first, then diagnosed."""
    from whydiff.faults.children import in_children

    waiting.reverse()  # taken from the end

    def next_task():
        if not waiting:
            return None
        task = waiting.pop()
        return task, functools.partial(_work, task[1], task[2])

    for (origin, phase, plan, proof), result in in_children(next_task, jobs, TIMEOUT):
        record = {"key": plan.key, "code": fingerprint(plan), "plan": dataclasses.asdict(plan), "proof": proof}
        if phase == "prove":
            broken = "error" in result
            if plan.suite in ("mutations", "pairs") and (broken or result["how"] == "nothing"):
                record |= {"proof": result, "redraw": True}
                done[plan.key] = record
                _advance(origin, plan, done, finals, waiting)
                yield record, origin
            elif plan.suite == "traces" and result.get("how") == "leak":  # a trace is of one call
                record |= {"proof": result, "skip": True}
                finals[origin] = record
                yield record, origin
            elif broken or (result["how"] == "nothing" and plan.suite != "benign"):
                why = result.get("error", "injection changed nothing")
                record |= {"proof": result, "error": why, "invalid": True}
                finals[origin] = record
                yield record, origin
            else:
                waiting.append((origin, "diagnose", plan, result))
        else:
            record |= result
            finals[origin] = record
            yield record, origin


def _work(phase: str, plan: Plan) -> dict:
    """What the child runs."""
    from whydiff.faults import traces, trial

    if phase == "prove":
        return trial.prove_pair(plan) if plan.suite == "pairs" else trial.prove(plan)
    return traces.diagnosed(plan) if plan.suite == "traces" else trial.diagnosed(plan)


def _warm(waiting: list) -> None:
    """Import and build all that the children need, so that they find it in memory."""
    import torch
    import tqdm

    torch.set_num_threads(1)  # also: a process that has started threads must not fork, and tqdm starts one
    tqdm.tqdm.monitor_interval = 0
    import whydiff
    from whydiff.faults import hosts, traces, trial  # noqa: F401

    kinds = {task[2].host for task in waiting}
    for kind in sorted(kinds | {hosts.PARTNERS[kind] for kind in kinds if kind in hosts.PARTNERS}):
        hosts.host(kind)
    a, b = hosts.pair(min(kinds))
    whydiff.diagnose(reference=a.pipeline, candidate=b.pipeline, call={"reference": a.call, "candidate": b.call})


def _stored(results: pathlib.Path) -> dict[str, dict]:
    """Records by key; a line that was cut off is skipped."""
    found = {}
    if results.is_file():
        for line in results.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found[record["key"]] = record
    return found


def fingerprint(plan: Plan) -> str:
    """Of the code that this trial runs: the library, the native port, and the file of what is planted."""
    from whydiff.faults.fault import FAULTS

    own = {sys.modules[FAULTS[id_].inject.__module__].__file__ for id_ in plan.id.split("+") if id_ in FAULTS}
    if plan.suite in ("mutations", "benign", "pairs"):
        own |= {str(path) for path in pathlib.Path(__file__).parent.glob(f"{plan.suite}*.py")}
    return hashlib.sha256("".join([_library(), *(_digest(path) for path in sorted(own))]).encode()).hexdigest()[:16]


@functools.cache
def _library() -> str:
    """All code but what only judges or prints, or is planted."""
    from whydiff.evidence.surroundings.defaults import data_folder

    root = pathlib.Path(__file__).resolve().parents[1]
    files = [p for p in root.rglob("*.py") if not p.relative_to(root).as_posix().startswith(_NOT_MEASURING)]
    return "".join(_digest(str(path)) for path in sorted([*files, *data_folder("cases").rglob("*.py")]))


@functools.cache
def _digest(path: str) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _word(record: dict) -> str:
    plan = record["plan"]
    if record.get("skip"):
        return f"{plan['suite']} {plan['id']}: shows only after another call"
    got = record.get("error") or ", ".join(c["id"] for c in record["verdict"]["causes"]) or record["verdict"]["verdict"]
    return f"{plan['suite']} {plan['id']} ({plan['host']}, {plan['side']}): {got}"


def to_stderr() -> Callable[[str], None]:
    """One line that changes on a terminal, otherwise a line now and then."""
    terminal, last = sys.stderr.isatty(), [0.0]

    def said(text: str) -> None:
        if terminal:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            print(f"\r\x1b[K{text[: width - 1]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last[0] > 10 or not last[0]:
            last[0] = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return said
