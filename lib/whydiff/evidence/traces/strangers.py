"""Reading what strangers wrote: whatever goes wrong inside a reader becomes one clear line, and nothing is followed out of a folder."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re

from whydiff import limits
from whydiff.errors import OutOfRuns, Trouble

_PLAIN = re.compile(r"[^/\\:\x00-\x1f]+")
LONGEST = 200  # bytes; file systems end at 255


@contextlib.contextmanager
def reading(path, what: str, remedy: str = "Copy it again, or save it again."):
    """The border between a foreign file and whydiff. `what`: `a whole safetensors file`.

    Libraries answer damaged input with whatever their code happens to run into: any exception means that the file is not `what`.
    """
    try:
        yield
    except (Trouble, OutOfRuns):
        raise
    except MemoryError:
        raise Trouble(f"{path}: not {what}, or too large for this machine's memory. {remedy}") from None
    except Exception as error:
        raise Trouble(f"{path}: not {what} ({first_line(error)}). {remedy}") from None


def first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")


def is_plain_name(name) -> bool:
    """Is this the name of a file in a folder, on any system: no way to elsewhere, nothing unprintable, not too long?"""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and name not in (".", "..") and len(name.encode(errors="replace")) <= LONGEST


def regular(path: pathlib.Path) -> pathlib.Path:
    """The path of a plain file. Raises Trouble for pipes, devices and sockets: reading one may never end."""
    if not path.is_file():
        raise Trouble(f"{path} is not a plain file." if path.exists() else f"{path} does not exist.")
    return path


def inside(path: pathlib.Path, folder: pathlib.Path, where: str = "") -> pathlib.Path:
    """The path, if it leads to a plain file within the folder, links followed.

    Raises Trouble otherwise: a link in a stranger's folder must not bring in what lies elsewhere on this machine.
    WHYDIFF_FOLLOW_LINKS=1 allows it, for stores that keep files elsewhere and link to them.
    """
    home = os.path.realpath(folder)
    if os.path.commonpath([home, os.path.realpath(path)]) != home and os.environ.get("WHYDIFF_FOLLOW_LINKS") != "1":
        raise Trouble(f"{f'{where}: ' if where else ''}{path.name} is a link that leaves {folder}. Copy the file itself there, or set "
                      "WHYDIFF_FOLLOW_LINKS=1 where the folder is your own.")  # fmt: skip
    return regular(path)


def json_of(text: str | bytes, where):
    """The value in a JSON text. Raises Trouble for what is none, and for one beyond the limits (depth, values, digits)."""
    with reading(where, "JSON that can be read"):
        held = json.loads(text)
    limits.check_values(held, where)
    return held


def json_file(path: pathlib.Path):
    """As `json_of`, of a file."""
    limits.JSON.check(regular(path).stat().st_size, path)
    with reading(path, "JSON that can be read"):
        text = path.read_text(encoding="utf-8-sig")
    return json_of(text, path)


def lines_of(path: pathlib.Path):
    """(number from 1, text, is it whole) of each line that is not empty; the last may lack its end. Bytes that are no UTF-8 are replaced."""
    most = limits.LINE.most
    with regular(path).open("rb") as file:
        number = 0
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                limits.LINE.check(len(line), f"{path}, line {number}")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
            if text.strip():
                yield number, text, line.endswith(b"\n")
