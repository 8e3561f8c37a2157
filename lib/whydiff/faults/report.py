"""The figures in words: a table in Markdown, every miss by name, what was not injected and why."""

from __future__ import annotations

import pathlib

from whydiff.errors import Trouble
from whydiff.faults.known import KNOWN, NOT_CARRIED
from whydiff.faults.score import Figure, Judged, table

BEGIN, END = "<!-- faults:begin -->", "<!-- faults:end -->"


def markdown(judged: list[Judged], seed: int) -> str:
    """The table, ready to stand in a README."""
    rows = ["| | measured | | bar | |", "|---|---|---|---|---|"]
    for figure in table(judged):
        met = {True: "met", False: "**missed**", None: ""}[figure.met]
        rows.append(f"| {figure.what} | {_value(figure)} | {_counts(figure)} | {_bar(figure)} | {met} |")
    return "\n".join(rows) + f"\n\nSeed {seed}.\n"


def misses(judged: list[Judged]) -> list[str]:
    """Every trial that was not wholly right: a line each."""
    lines = []
    for j in judged:
        wrong = []
        if j.record.get("invalid"):
            wrong.append("NOT INJECTED")
        elif j.below:
            wrong.append("below the floor")
        else:
            wrong += ["place"] if j.place is False else []
            wrong += ["cause"] if j.cause is False else []
            wrong += ["FALSE CAUSE " + ", ".join(j.false)] if j.false else []
            wrong += ["FALSE ALARM"] if j.alarm else []
        if wrong:
            plan = j.plan
            lines.append(f"{plan['suite']} {plan['id']} ({plan['host']}, {plan['side']}): {'; '.join(wrong)}. "
                         f"Expected {j.expected}; got {j.got}")  # fmt: skip
    return lines


def not_injected(planted: set[str]) -> list[str]:
    """Catalogue bugs without an injector, each with the reason."""
    return [f"{id_}: {NOT_CARRIED.get(id_, 'no injector yet')}" for id_ in KNOWN if id_ not in planted]


def to_dict(judged: list[Judged], seed: int, planted: set[str]) -> dict:
    """For machines."""
    figures = [{"what": f.what, "right": f.right, "of": f.of, "bar": f.bar, "kind": f.kind, "met": f.met} for f in table(judged)]
    trials = [{**j.plan, "place": j.place, "cause": j.cause, "false": list(j.false), "alarm": j.alarm, "below_floor": j.below,
               "error": j.record.get("error"), "expected": j.expected, "got": j.got} for j in judged]  # fmt: skip
    reasons = {id_: NOT_CARRIED.get(id_, "no injector yet") for id_ in KNOWN if id_ not in planted}
    return {"schema": 1, "seed": seed, "figures": figures, "trials": trials, "not_injected": reasons}


def into_readme(path: pathlib.Path, text: str) -> None:
    """Put the table between the markers of a file."""
    old = path.read_text(encoding="utf-8")
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise Trouble(f"{path}: has no lines {BEGIN} and {END} for the table to stand between. Add them where it belongs.")
    path.write_text(f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}", encoding="utf-8")


def _value(figure: Figure) -> str:
    if not figure.of:
        return "not run"
    if figure.kind == "seconds":
        return f"{figure.right:.1f} s"
    if figure.kind == "count" or figure.bar is None or (figure.kind == "most" and not figure.bar):
        return f"{figure.right:g}"
    return f"{100 * figure.share:.1f} %"


def _counts(figure: Figure) -> str:
    if figure.kind == "seconds":
        return f"of {figure.of}"
    return f"{figure.right:g} / {figure.of}"


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    if figure.kind == "seconds":
        return f"<= {figure.bar:g} s"
    if figure.kind == "count":
        return f">= {figure.bar:g}"
    if figure.kind == "most" and not figure.bar:
        return "0"
    return f"{'>=' if figure.kind == 'least' else '<='} {100 * figure.bar:g} %"
