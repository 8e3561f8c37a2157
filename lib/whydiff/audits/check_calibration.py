"""Do the checks in use tell right from wrong, and which checks would?"""

from __future__ import annotations

from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.measure.calibration import Calibration

NAME = "check_calibration"
QUESTION = "Do the checks in use tell a broken subject from a sound one, and which checks would?"


def fault_by_fault(used: Calibration | None, better: Calibration, shown: dict[str, str]) -> Table:
    """A row for each fault: how many checks in use pass it (if any are), what the better ones measure, how many catch it.

    `shown`: {check of `better`: column heading}; a reading's words follow its value where they name what was found.
    """
    rows = []
    for fault in better.faults:
        passing = () if used is None else (f"{sum(used.passed(c, fault) == used.inputs for c in used.checks)} of {len(used.checks)}",)
        readings = [better.readings[check, fault, 0] for check in shown]
        caught = [check for check in better.checks if fault in better.of(check).caught]
        rows.append((fault, *passing, *map(_measured, readings), f"{len(caught)} of {len(better.checks)}"))
    head = ("fault", *(() if used is None else ("checks in use that pass it",)), *shown.values(), "better checks that catch it")
    return Table(head, tuple(rows))


def check_by_check(*calibrations: Calibration) -> Table:
    """A row for each check: what it caught, where faults were planted, and on how many inputs it failed sound code."""
    rows, planted = [], any(calibration.faults for calibration in calibrations)
    for calibration in calibrations:
        for check in calibration.checks:
            found = calibration.of(check)
            values = [calibration.readings[check, calibration.sound, i].value for i in range(calibration.inputs)]
            known = [v for v in values if v is not None]
            spread = f"{min(known):.3g} to {max(known):.3g}" if known else ""
            caught = (f"{len(found.caught)} of {len(calibration.faults)}",) if planted else ()
            rows.append((check, *caught, f"{len(found.alarms)} of {found.inputs}", spread))
    return Table(("check", *(("faults it catches",) if planted else ()), "inputs on which it fails sound code", "its value there"), tuple(rows))


def audit(used: Calibration, better: Calibration, alarms: Calibration | None = None) -> AuditResult:
    """`vacuous` where no check in use catches anything: that they passed is then no evidence. `different` where some do.

    `alarms`: the checks in use on further inputs, for what they say of sound code.
    """
    blind = [check for check in used.checks if used.of(check).blind]
    caught = {fault for check in used.checks for fault in used.of(check).caught}
    total = len(used.faults)
    findings = [Sentence(f"the {len(used.checks)} checks in use catch {len(caught)} of {total} planted faults; "
                         f"{len(blind)} of them catch none")]  # fmt: skip
    for calibration in (used, *([alarms] if alarms else [])):
        findings += [Sentence(f"{check} fails sound code on {len(found.alarms)} of {found.inputs} inputs")
                     for check in calibration.checks for found in [calibration.of(check)] if found.alarms]  # fmt: skip
    left = better.uncaught()
    findings.append(Sentence(f"the {len(better.checks)} checks that hold it against the reference catch {total - len(left)} of {total}"
                             + (f"; none catches {', '.join(left)}" if left else "")))  # fmt: skip
    findings += [Sentence(f"{check} fails sound code, so its limit is wrong") for check in better.checks if better.of(check).alarms]
    word = "vacuous" if total and not caught else "same" if not total else "different"
    return AuditResult(NAME, QUESTION, word, tuple(findings))


def _measured(reading) -> str:
    if reading.value is None:
        return reading.words
    named = "" if reading.passed or reading.words.startswith("limit") else f" ({reading.words})"
    return f"{reading.value:.3g}{named}"
