"""Writes docs/licences.md: what every locked package says about its licence, from the metadata that is installed with it."""

import importlib.metadata
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements.lock"
_HEAD = """# Licences of what is locked

`make licences` writes this from the metadata of the installed packages; whydiff itself is Apache-2.0. Packages are used as they are
installed from the index; none is copied into this repository.

| package | version | licence |
|---|---|---|
"""


def locked() -> dict[str, str]:
    """{package: version} of requirements.lock."""
    lines = [line.split("#")[0].split(";")[0].strip() for line in LOCK.read_text(encoding="utf-8").splitlines()]
    return dict(re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?==(\S+)", line).groups() for line in lines if "==" in line)


def licence(package: str) -> str:
    """The SPDX expression, else the classifiers, else the first line of the free text; `not stated` where there is nothing."""
    try:
        told = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"
    kinds = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier", []) if c.startswith("License :: ")]
    words = told.get("License-Expression") or ", ".join(k for k in kinds if k != "OSI Approved") or (told.get("License") or "").strip()
    return words.splitlines()[0][:80].replace("|", "/") if words else "not stated"


def table() -> str:
    rows = [f"| {name} | {version} | {licence(name)} |" for name, version in sorted(locked().items(), key=lambda row: row[0].lower())]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "licences.md"
    target.write_text(table(), encoding="utf-8")
