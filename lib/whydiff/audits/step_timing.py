"""Which steps take unusually long or short, and what does the schedule do there?"""

from __future__ import annotations

from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.audits.schedule_math import as_sigmas, boundary
from whydiff.causes.schedule.solved import expert_switch
from whydiff.evidence.readers.step_log import StepTimes, read_step_times
from whydiff.formulas.schedule_switch import solve_switch
from whydiff.measure.outliers import Outliers, outlying

NAME = "step_timing"
QUESTION = "Which steps take unusually long or short, and what does the schedule do there?"
FILES = ("log", "log_reference")  # the notebook's parameters that name files; without the first there is nothing to ask
ROLES = ("reference", "candidate")


def audit(study, log: str = "", log_reference: str = "", steps: int = 0) -> AuditResult:
    """Step times of one or two logs laid over the study's schedules. `log` is the candidate's.

    `log`, `log_reference`: files that `read_step_times` reads. `steps`: which bar of a log, by its total; 0: the longest.
    The word is `within_noise` where no step stands out (of two logs: where the same steps do), else `different`. Step 0
    does not count: libraries compile and warm up there under any schedule. Without a log `incomparable`.
    """
    files = {"reference": log_reference, "candidate": log}
    times = {role: read_step_times(file, steps or None) for role, file in files.items() if file}
    return judge(times, *schedules(study))


def schedules(study) -> tuple[dict, dict, float | None]:
    """(sigmas by role, first step of the second expert by role, the boundary between experts), as a study knows them."""
    sigmas = {role: as_sigmas(study, role) for role in ROLES}
    lists = {role: values.double().tolist() for role, values in sigmas.items() if values is not None}
    return lists, {role: expert_switch(study.lab, role) for role in ROLES}, boundary(study)


def judge(times: dict[str, StepTimes], sigmas: dict[str, list[float]], switches: dict[str, int | None],
          limit: float | None = None) -> AuditResult:  # fmt: skip
    """Which steps of `times` stand out, and which of `switches` lie there.

    `times`: by role, one or both. `sigmas`: (N,) or (N + 1,) with a final 0, by role. `limit`: the boundary in [0, 1] between
    two experts; where a step stands out and no side switches there, the shifts that would switch there are solved for.
    """
    if not times:
        words = "no step times were given: name a tqdm log, or a list of seconds, in the parameter log"
        return AuditResult(NAME, QUESTION, "incomparable", (Sentence(words),), exhibits={"times": {}, "outliers": {}, "switches": {}})
    found = {role: outlying(t.seconds, t.errors) for role, t in times.items()}
    standing = {role: {int(times[role].steps[i]) for i in o.indices} - {0} for role, o in found.items()}
    differ = len(set(map(frozenset, standing.values()))) > 1 if len(times) > 1 else any(standing.values())
    findings = []
    for role, t in times.items():
        sides = [role] if len(times) > 1 else switches  # of two logs each belongs to its own side's schedule
        matching = {side: switches[side] for side in sides if switches.get(side) is not None and _levels(sigmas.get(side)) == t.count}
        findings += [*_log(role, t, found[role]), *_outlying(role, t, found[role], matching, limit), *_silent(role, t, standing, matching)]
        findings += _not_laid_over(role, t, sigmas)
    if len(times) > 1:
        findings.append(_both(standing))
    return AuditResult(
        NAME,
        QUESTION,
        "different" if differ else "within_noise",
        tuple(findings),
        ("log", "step", "seconds", "uncertain by", "bar showed", "stands out", "sigma, reference", "sigma, candidate"),
        tuple(row for role, t in times.items() for row in _rows(role, t, found[role], sigmas)),
        {"times": times, "outliers": found, "switches": switches, "shifts": _shifts(times, standing, switches, limit)},
    )


def _levels(sigmas) -> int:
    return 0 if sigmas is None else len(sigmas) - int(sigmas[-1] == 0)


def _log(role: str, times: StepTimes, found: Outliers):
    measured = f"a step takes {found.middle:.4g} s, give or take {found.spread:.2g} s"
    yield Sentence(f"the {role}'s log: {times.count} steps, from {times.origin}", measured)
    for note in times.notes:
        yield Sentence(f"the {role}'s log: {note}")


def _outlying(role: str, times: StepTimes, found: Outliers, switches: dict, limit):
    for i in found.indices:
        step = int(times.steps[i])
        word = "long" if times.seconds[i] > found.middle else "short"
        shown = "" if times.shown is None else f"; the bar showed {times.shown[i]:.4g} s/it"
        measured = f"{times.seconds[i]:.3g} s where others take {found.middle:.3g} s{shown}"
        yield Sentence(f"on the {role} step {step} (tqdm shows {step + 1}) is {word}: {_why(step, times, switches, limit)}", measured)
    if not found.indices:
        yield Sentence(f"on the {role} no step stands out from the others")


def _why(step: int, times: StepTimes, switches: dict, limit) -> str:
    if step == 0:
        return "compilation and warm-up fall on the first step under any schedule"
    there = [side for side, at in switches.items() if at == step]
    if there:
        return f"there the second expert takes over on the {' and the '.join(there)}"
    if not switches or limit is None:
        return "nothing known of the schedule sets this step apart"
    intervals = solve_switch(times.count, limit, step, None)
    if not intervals:
        return "neither side changes experts there, and no shift would"
    low, high = min(i.low for i in intervals), max(i.high for i in intervals)
    return f"neither side changes experts there; a shift from {low:.4g} to {high:.4g}, by grid, would"


def _silent(role: str, times: StepTimes, standing: dict, switches: dict):
    for side, step in switches.items():
        if 0 < step < times.count and step not in standing[role]:
            yield Sentence(f"on the {side} the second expert takes over at step {step}, and the {role}'s log shows nothing there")


def _not_laid_over(role: str, times: StepTimes, sigmas: dict):
    other = {side: _levels(values) for side, values in sigmas.items() if _levels(values) not in (0, times.count)}
    for side, count in other.items():
        yield Sentence(f"the {side}'s schedule has {count} steps, the {role}'s log {times.count}: they are not laid over each other")


def _both(standing: dict) -> Sentence:
    one, other = standing["reference"], standing["candidate"]
    if one == other:
        steps = ", ".join(map(str, sorted(one))) or "none"
        return Sentence(f"the same steps stand out in both logs: {steps}")
    alone = {role: ", ".join(map(str, sorted(standing[role] - standing[other]))) or "none"
             for role, other in (("reference", "candidate"), ("candidate", "reference"))}  # fmt: skip
    return Sentence(f"only in the reference's log stand out: {alone['reference']}; only in the candidate's: {alone['candidate']}")


def _rows(role: str, times: StepTimes, found: Outliers, sigmas: dict):
    for i, step in enumerate(map(int, times.steps)):
        shown = None if times.shown is None else float(times.shown[i])
        levels = [f"{sigmas[side][step]:.6g}" if step < _levels(sigmas.get(side)) == times.count else None for side in ROLES]
        yield (role, step, float(times.seconds[i]), float(times.errors[i]), shown, "yes" if i in found.indices else "", *levels)


def _shifts(times: dict, standing: dict, switches: dict, limit) -> Table:
    """For each step that stands out where a boundary is known: the shifts that put the change of experts there, by grid."""
    rows = []
    if limit is not None:
        for role, steps in standing.items():
            for step in sorted(steps):
                rows += [(role, step, i.grid, i.low, i.high) for i in solve_switch(times[role].count, limit, step, None)]
    return Table(("log", "step", "grid", "shift from", "up to, not including"), tuple(rows))
