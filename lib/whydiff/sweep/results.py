"""What was found, on disk: one folder for each case, written whole or not at all, so that a sweep can go on where it died."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from whydiff.engine.expectation import exit_status, shortfall
from whydiff.errors import Trouble
from whydiff.evidence.traces.new_folder import take_place
from whydiff.sweep.grid import Planned
from whydiff.sweep.task import Answer
from whydiff.verdict import Verdict, where

CASES = "cases"
FILE = "result.json"
LOCK = ".sweep"  # held while a sweep writes; also says that the folder is one's


@dataclasses.dataclass
class Result:
    """One case with its answer. `verdict`: the word, or "" where there is none; `status`: as diff(1), the expectation counted."""

    planned: Planned
    told: dict | None
    trouble: str
    seconds: float
    figures: dict[str, Any]
    before: bool = False  # it was done by an earlier sweep

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def verdict(self) -> str:
        return self.told["verdict"] if self.told else ""

    @property
    def agrees(self) -> bool:
        return self.verdict in ("same", "within_noise", "precision")

    @property
    def status(self) -> int:
        return 2 if self.trouble else exit_status(Verdict.from_dict(self.told), self.planned.expect)

    @property
    def missed(self) -> str | None:
        """What was expected and did not happen."""
        return None if self.trouble or not self.told else shortfall(Verdict.from_dict(self.told), self.planned.expect)

    @property
    def expected(self) -> bool:
        """Is something expected of it at all?"""
        return self.planned.expect is not None and (self.planned.expect.verdict, self.planned.expect.causes) != (None, None)

    @property
    def set_aside(self) -> bool:
        return bool(self.figures.get("set_aside"))

    @property
    def causes(self) -> list[str]:
        return [cause["id"] for cause in self.told["causes"]] if self.told else []

    @property
    def unexplained(self) -> list[dict]:
        return self.told["unexplained"] if self.told else []

    @property
    def report(self) -> str:
        """Of the case, relative to the sweep's folder."""
        return f"{CASES}/{self.name}/report.html"

    def word(self) -> str:
        if self.trouble:
            return f"set aside: {self.trouble.removeprefix('set aside: ')}" if self.set_aside else self.trouble
        extra = ", ".join(self.causes) + (", unexplained" if self.unexplained else "")
        return f"{self.verdict}{f' ({extra.removeprefix(chr(44)).strip()})' if extra else ''}{f'; {self.missed}' if self.missed else ''}"


@contextlib.contextmanager
def folder_of_a_sweep(out) -> Iterator[pathlib.Path]:
    """The folder of a sweep, for one process at a time. Raises Trouble where it holds something else, or is in use."""
    out = pathlib.Path(out).absolute()
    if out.is_file():
        raise Trouble(f"{out} is a file; --out names a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / LOCK).is_file():
        raise Trouble(f"{out} holds something that no sweep wrote. Choose another --out, or an empty folder.")
    try:
        (out / CASES).mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise Trouble(f"{out} cannot be written: {error.strerror}. Choose another --out.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Trouble(f"{out}: another sweep is writing there. Wait for it, or choose another --out.") from None
        for draft in (out / CASES).glob(".*.part"):
            shutil.rmtree(draft, ignore_errors=True)
        yield out


def store(out: pathlib.Path, planned: Planned, key: str, answer: Answer) -> Result:
    """Write the folder of a case: its files, verdict.json and result.json; what was there goes in one move."""
    final = out / CASES / planned.name
    draft = final.with_name(f".{planned.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    for name, content in answer.files.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    draft.mkdir(parents=True, exist_ok=True)
    if answer.verdict is not None:
        (draft / "verdict.json").write_text(json.dumps(answer.verdict, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    told = {"schema": 1, "key": key, "name": planned.name, "settings": planned.settings, "verdict": answer.verdict, "trouble": answer.trouble,
            "seconds": round(answer.seconds, 3), "figures": answer.figures}  # fmt: skip
    with (draft / FILE).open("w", encoding="utf-8") as file:
        json.dump(told, file, indent=1, ensure_ascii=False, default=str)
        file.flush()
        os.fsync(file.fileno())
    take_place(draft, final)
    return Result(planned, answer.verdict, answer.trouble, answer.seconds, answer.figures)


def stored(out: pathlib.Path, planned: Planned, key: str) -> Result | None:
    """What an earlier sweep found for the very same case; None where it has to be run: trouble is tried again."""
    try:
        told = json.loads((out / CASES / planned.name / FILE).read_text(encoding="utf-8"))
        if told["key"] != key or told["trouble"] or told["verdict"] is None:
            return None
        return Result(planned, told["verdict"], "", told["seconds"], told["figures"], before=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_table(out: pathlib.Path, results: list[Result]) -> pathlib.Path:
    """`results.csv`: a line for each case, a column for each setting that was varied."""
    axes = list(dict.fromkeys(key for result in results for key in result.planned.settings))
    path = out / "results.csv"
    draft = path.with_suffix(".csv.part")
    with draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["case", *axes, "verdict", "status", "expectation", "causes", "unexplained", "stage", "probe", "step", "difference",
                        "noise_floor", "image_difference", "seconds", "attempts", "report", "trouble"])  # fmt: skip
        for result in results:
            table.writerow(_row(result, axes))
    draft.replace(path)
    return path


def _row(result: Result, axes: list[str]) -> list:
    first = (result.told or {}).get("first_divergence") or {}
    wanted = "" if not result.expected or result.trouble else "missed" if result.missed else "met"
    return [result.name, *(_cell(result.planned.settings.get(axis, "")) for axis in axes), result.verdict or "trouble", result.status, wanted,
            " ".join(result.causes), "; ".join(map(where, result.unexplained)), *(_cell(first.get(key)) for key in
            ("stage", "probe", "step", "difference", "noise_floor")), _cell(result.figures.get("image_difference")),
            f"{result.seconds:.3f}", result.figures.get("attempts", 1), "" if result.trouble else result.report, result.trouble]  # fmt: skip


def _cell(value) -> Any:
    """A spreadsheet takes a text that begins with one of these signs for a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not isinstance(value, (int, float)) else text
