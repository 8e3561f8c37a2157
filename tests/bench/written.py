"""Puts a table that was measured into docs/performance.md, between the marks of its section."""

import pathlib

FILE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def write_section(name: str, table: str, path: pathlib.Path = FILE) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    text, begin, end = path.read_text(encoding="utf-8"), f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = text.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{path} has no section {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
