"""Can a check tell right from wrong? It is run on a sound subject and on the same subject with one planted fault at a time.

A check that passes everything proves nothing, and one that fails sound code is worse: both show only when it is calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """What a check measured on one subject; `passed` by the check's own limit."""

    value: float | None
    passed: bool
    words: str = ""


@dataclass(frozen=True)
class Calibrated:
    """How one check did. `caught`: faults it fails on every input; `missed`: the others; `alarms`: inputs on which sound code fails."""

    check: str
    caught: tuple[str, ...]
    missed: tuple[str, ...]
    alarms: tuple[int, ...]
    inputs: int

    @property
    def blind(self) -> bool:
        """No fault makes it fail."""
        return not self.caught

    @property
    def words(self) -> str:
        total = len(self.caught) + len(self.missed)
        text = f"catches {len(self.caught)} of {total} faults" if self.caught else f"blind: passes all of {total} faults"
        return text + (f", and fails sound code on {len(self.alarms)} of {self.inputs} inputs" if self.alarms else "")


@dataclass(frozen=True)
class Calibration:
    """All readings, by (check, subject, number of the input); `faults` names the subjects that are broken, in order."""

    sound: str
    faults: tuple[str, ...]
    checks: tuple[str, ...]
    inputs: int
    readings: Mapping[tuple[str, str, int], Reading]

    def of(self, check: str) -> Calibrated:
        caught = tuple(f for f in self.faults if all(not self.readings[check, f, i].passed for i in range(self.inputs)))
        missed = tuple(f for f in self.faults if f not in caught)
        alarms = tuple(i for i in range(self.inputs) if not self.readings[check, self.sound, i].passed)
        return Calibrated(check, caught, missed, alarms, self.inputs)

    def passed(self, check: str, subject: str) -> int:
        """On how many inputs the subject passes."""
        return sum(self.readings[check, subject, i].passed for i in range(self.inputs))

    def uncaught(self) -> tuple[str, ...]:
        """Faults that no check catches."""
        return tuple(f for f in self.faults if all(f in self.of(check).missed for check in self.checks))


def calibrate(checks: Mapping[str, Callable[[Any, Any], Reading]], sound: tuple[str, Any], faults: Mapping[str, Any],
              inputs: Sequence[Any]) -> Calibration:  # fmt: skip
    """Run every check (subject, input) -> Reading on the sound subject and on every broken one.

    A check that raises on a subject fails it, with the error as its words: an exception is a loud difference.
    """
    name, subject = sound
    subjects = {name: subject, **faults}
    readings = {}
    for check, run in checks.items():
        for label, broken in subjects.items():
            for i, given in enumerate(inputs):
                try:
                    readings[check, label, i] = run(broken, given)
                except (RuntimeError, TypeError, ValueError, IndexError) as error:
                    readings[check, label, i] = Reading(None, False, f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return Calibration(name, tuple(faults), tuple(checks), len(inputs), readings)
