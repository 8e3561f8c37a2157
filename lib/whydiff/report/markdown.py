"""The verdict as Markdown to paste into an issue: causes with proof and fix, what stays open, settings and versions that differ."""

from __future__ import annotations

from whydiff.report.settings import ROLES, environments, producers, settings_rows
from whydiff.verdict import describe, share, where

LONGEST = 160  # characters of a setting


def pasted(study, command: str) -> str:
    """The text; nothing of it is escaped but what would break a table."""
    verdict = study.verdict
    names = {role: getattr(study.case, role).name or role for role in ROLES}
    parts = [f"**{verdict.summary}**", f"*{study.case.question}* Reference: {names['reference']}. Candidate: {names['candidate']}."]
    if verdict.causes:
        rows = [[f"`{cause.id}`", where(cause.to_dict()), cause.statement, f"{cause.experiment} ({share(cause.explained)} explained)",
                 f"{cause.departs} departs; {cause.fix}"] for cause in verdict.causes]  # fmt: skip
        parts.append(_section("Causes", _table(["cause", "where", "what", "proof", "fix"], rows)))
    if verdict.unexplained:
        parts.append(_section("Unexplained", "\n".join(f"- {describe(entry)}" for entry in verdict.unexplained)))
    apart = [row for row in settings_rows(study) if row["differs"]]
    told = [[f"`{row['key']}`", *(str(cell["value"])[:LONGEST] for cell in row["cells"])] for row in apart]
    parts.append(_section("Settings that differ", _table(["setting", *ROLES], told) if told else "None of those that both sides state."))
    parts.append(_section("Versions", _table(["", *ROLES], versions(study))))
    if verdict.notes:
        parts.append(_section("Notes", "\n".join(f"- {note}" for note in verdict.notes)))
    again = f"```console\n$ {command}\n```\n\nor, from the attached fingerprints alone, `whydiff diagnose case.yaml` in the unpacked bundle."
    return "\n\n".join([*parts, _section("Again", again)]) + "\n"


def versions(study) -> list[list[str]]:
    """[what, reference's, candidate's]: what ran, its package, Python, and the versions of the libraries."""
    made = {row["role"]: row["parts"] for row in producers(study)}
    rows = [[key, *(made[role].get(key, "–") for role in ROLES)] for key in ("name", "package", "version")]
    facts = [row for row in environments(study) if row["key"] in ("python", "system", "machine") or row["key"].startswith(("versions.", "devices."))]
    return [*rows, *([row["key"].removeprefix("versions."), *row["cells"]] for row in facts)]


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "-|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: str) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
