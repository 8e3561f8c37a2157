"""Step times from a log: tqdm's bars in whatever else was printed, or a list of seconds.

A bar shows the moving average of its steps, not the steps (formulas.moving_average); the average is undone here, and held
against the bar's clock, which counts whole seconds.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import numpy as np

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.traces.strangers import regular
from whydiff.formulas.moving_average import SMOOTHING, unsmoothed

# `37%|███▋      | 10/27 [03:54<05:58, 21.10s/it]`; a bar of unknown length has no total and is no denoising loop.
BAR = re.compile(r"(?<![0-9])([0-9]{1,9})/([0-9]{1,9}) \[((?:[0-9]{1,6}:)?[0-9]{1,6}:[0-9]{1,6})<[^,\]]{0,40}, {1,9}"
                 r"([0-9]{1,15}(?:\.[0-9]{0,15})?)(s/[A-Za-z]{1,40}|[A-Za-z]{1,40}/s)")  # fmt: skip
LONGEST = 2000  # characters of a line that may be one bar


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Seconds of each step, (N,), with the largest error of each, (N,). `shown`: what a bar showed, (N,), or None.

    `steps`: (N,) index of each entry's last step, from 0: an entry of a bar that skipped updates stands for several.
    """

    seconds: np.ndarray
    errors: np.ndarray
    steps: np.ndarray
    shown: np.ndarray | None
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Steps timed."""
        return int(self.steps[-1]) + 1


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar's updates: steps finished, whole seconds on its clock, seconds per step shown, rounding of the latter."""

    label: str
    total: int
    counts: list[int]
    clock: list[int]
    shown: list[float]
    rounding: list[float]


def read_step_times(path, steps: int | None = None, smoothing: float = SMOOTHING) -> StepTimes:
    """Step times of a file: a log with tqdm bars, or numbers (text, `#` begins a comment; or a JSON list), in seconds.

    `steps` chooses the bar with that total. Of several that fit, the last that ran to its end is taken, and a note says so.
    Raises Trouble where there is neither a bar nor a list of numbers.
    """
    path = pathlib.Path(path)
    limits.LOG.check(regular(path).stat().st_size, path)
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise Trouble(f"{path}: the log cannot be read ({error.strerror}).") from None
    found = bars(text)
    if found:
        bar, notes = _choose(found, steps, path)
        return from_bar(bar, smoothing, notes)
    return _from_list(text, path)


def bars(text: str) -> list[Bar]:
    """Every bar in a text, in order. Updates of one label and total belong together until the count falls."""
    found: list[Bar] = []
    running: dict[tuple[str, int], Bar] = {}
    for piece in re.split(r"[\r\n]|(?<=\])", text):  # a bar written by a pipe has no \r between two updates
        piece = piece[-LONGEST:]
        match = BAR.search(piece)
        if match is None:
            continue
        count, total = int(match[1]), int(match[2])
        if not 0 < count <= total:
            continue
        label = _label(piece[: match.start()])
        bar = running.get((label, total))
        if bar is None or count < bar.counts[-1]:
            bar = running[label, total] = Bar(label, total, [], [], [], [])
            found.append(bar)
        elif count == bar.counts[-1]:
            continue  # drawn again; the last line of a finished bar shows the mean of all steps in place of the average
        value, digits = float(match[4]), len(match[4].partition(".")[2])
        half = 0.5 * 10.0**-digits
        if match[5].endswith("/s"):
            value, half = (1 / value, half / value**2) if value else (float("inf"), float("inf"))
        bar.counts.append(count)
        bar.clock.append(_clock(match[3]))
        bar.shown.append(value)
        bar.rounding.append(half)
    return [bar for bar in found if np.isfinite(bar.shown).all()]


def _label(head: str) -> str:
    """`Denoising:` of `INFO | Denoising:  37%|███▋      | `; nothing where there is no bar."""
    before, *bar = head.rstrip().rsplit("|", 2)
    share = re.search("[0-9]{1,3}%$", before) if len(bar) == 2 and not bar[1] else None
    return before[: share.start()].rpartition("|")[2].strip() if share else ""


def from_bar(bar: Bar, smoothing: float = SMOOTHING, notes=()) -> StepTimes:
    """The steps behind a bar: its average undone, where its clock agrees with that; else differences of the clock."""
    seconds, errors = unsmoothed(bar.shown, smoothing, bar.counts, bar.rounding)
    added = np.diff(bar.counts, prepend=0)
    ticks = np.diff(bar.clock, prepend=0)
    origin = f"a tqdm bar, its moving average ({smoothing:g}) undone"
    if (np.abs(seconds * added - ticks) > errors * added + 1).any():
        seconds, errors = ticks / added, 1.0 / added
        origin = "a tqdm bar's clock, in whole seconds"
        notes = (*notes, f"the average shown is not one of smoothing {smoothing:g} over these updates: updates are missing, or "
                         "the bar was made with another smoothing")  # fmt: skip
    return StepTimes(seconds, errors, np.asarray(bar.counts) - 1, np.asarray(bar.shown), origin, tuple(notes))


def of_list(seconds, resolution: float = 0.0) -> StepTimes:
    """Step times that are known already; `resolution` is the unit of their last digit."""
    seconds = np.asarray(seconds, dtype=np.float64)
    return StepTimes(seconds, np.full(seconds.shape, resolution / 2), np.arange(len(seconds)), None, "a list of step times")


def _choose(found: list[Bar], steps: int | None, path) -> tuple[Bar, tuple[str, ...]]:
    totals = [bar.total for bar in found]
    if steps is not None and steps not in totals:
        raise Trouble(f"{path} has no bar of {steps} steps; its bars have {', '.join(map(str, sorted(set(totals))))}.")
    wanted = steps if steps is not None else max(totals)
    fitting = [bar for bar in found if bar.total == wanted]
    whole = [bar for bar in fitting if bar.counts[-1] == bar.total] or fitting
    notes = (f"the log has {len(fitting)} bars of {wanted} steps; the last was taken",) if len(fitting) > 1 else ()
    if whole[-1].counts[-1] < wanted:
        notes += (f"the bar ends at step {whole[-1].counts[-1]} of {wanted}",)
    return whole[-1], notes


def _from_list(text: str, path) -> StepTimes:
    bare = re.sub(r"#.*", "", text)
    try:
        words = json.loads(bare) if bare.lstrip().startswith("[") else bare.replace(",", " ").split()
        values = [float(word) for word in words]
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Trouble(f"{path} holds neither a tqdm bar (such as `10/27 [03:54<05:58, 21.10s/it]`) nor a list of seconds.") from None
    if not values or not all(np.isfinite(values)) or min(values) < 0:
        raise Trouble(f"{path}: step times are numbers of 0 or more, in seconds; at least one is needed.")
    digits = max(len(str(word).partition(".")[2]) for word in words)
    return of_list(values, 10.0**-digits)


def _clock(words: str) -> int:
    """`1:02:03` or `02:03` in seconds."""
    seconds = 0
    for part in words.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds
