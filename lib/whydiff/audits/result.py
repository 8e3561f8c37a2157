"""What an audit answers: a word, sentences, a table to show, and the arrays that its pictures draw."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from whydiff.verdict import VERDICTS, breakable, literal, rounded


class Sentence(str):
    """A finding. `words` is the part that stays the same from run to run: words, places, ids and fitted parameters."""

    words: str

    def __new__(cls, words: str, measured: str = ""):
        sentence = super().__new__(cls, f"{words} ({measured})." if measured else f"{words}.")
        sentence.words = f"{words}."
        return sentence


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """The answer to one notebook's question; shows itself in a notebook.

    `columns` and `table` are for display; `exhibits` are arrays that the views of `whydiff.report` draw; `kept` is plain
    JSON that is stored beside the findings, for the report.
    """

    name: str
    question: str
    verdict: str
    findings: tuple[str, ...]
    columns: tuple[str, ...] = ()
    table: tuple[tuple, ...] = ()
    exhibits: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.name}: {self.verdict!r} is none of {', '.join(VERDICTS)}.")

    def words(self) -> str:
        """The answer without measured differences and floors: the same on every machine.

        Whether two correct formulas agree to the last bit is measured too, so `same` and `within_noise` read alike.
        """
        word = "same or within_noise" if self.verdict in ("same", "within_noise") else self.verdict
        return "\n".join([f"{self.name}: {word}", *(getattr(f, "words", f) for f in self.findings)])

    def to_dict(self) -> dict:
        return {"name": self.name, "verdict": self.verdict, "findings": [str(f) for f in self.findings]}

    def save(self, out: str) -> pathlib.Path | None:
        """Write `out/audits/<name>.json`; with an empty `out` nothing is kept."""
        if not out:
            return None
        path = pathlib.Path(out) / "audits" / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".json.part")
        kept = {"kept": rounded(dict(self.kept))} if self.kept else {}
        draft.write_text(json.dumps(self.to_dict() | kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(path)
        return path

    def _repr_markdown_(self) -> str:
        lines = [f"**{self.verdict}** · {literal(self.question)}", ""]
        lines += [f"- {literal(finding)}" for finding in self.findings]
        if self.table:
            lines += ["", markdown_table(self.columns, self.table)]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that show themselves as a table in a notebook."""

    columns: tuple[str, ...]
    rows: tuple[tuple, ...]

    def _repr_markdown_(self) -> str:
        return markdown_table(self.columns, self.rows)


@dataclasses.dataclass(frozen=True)
class Lines:
    """Sentences that show themselves as a list in a notebook."""

    lines: tuple[str, ...]

    def _repr_markdown_(self) -> str:
        return "\n".join(f"- {literal(line)}" for line in self.lines)


def markdown_table(columns, rows) -> str:
    lines = ["| " + " | ".join(map(literal, columns)) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(breakable(literal(cell(value))) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(value) -> str:
    """A value in a table: numbers with three significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        number = rounded(value)
        return "not finite" if number is None else f"{number:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
