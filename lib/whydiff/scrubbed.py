"""Text without what is nobody's business: paths of this machine, values of its environment variables, its and its user's name."""

from __future__ import annotations

import functools
import getpass
import html
import os
import pathlib
import re
import socket
import tempfile
from collections.abc import Iterable, Mapping

REMOVED = "[removed]"
SHORTEST = 7  # characters from which on a value of an environment variable is taken for private
# Words that such a variable may hold and that a report cannot do without: roles, levels, packages (an environment named after one).
_PUBLIC = {"whydiff", "diffusers", "transformers", "accelerate", "safetensors", "reference", "candidate", "fingerprint", "float32", "float16",
           "bfloat16", "warning", "default"}  # fmt: skip
_EVERYBODY = {"root", "user", "users", "home"}  # names of accounts that say nothing
# Two folders deep at least: a single word behind a slash is an argument or a fraction as often as a path.
_ABSOLUTE = re.compile(r"(?<![\w.~/+<=])/(?=[\w.+@%~-]*[A-Za-z])((?:[\w.+@%~-]+/)+)([\w.+@%~-]*)")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\\s\"'<>|]+\\)*([^\\\s\"'<>|]*)")
_PIECE = re.compile(r"<style.*?</style>|<script.*?</script>|<(?:[^>\"]|\"[^\"]*\")*>|[^<]+", re.DOTALL)  # of a page
_FIXED = {"verdict", "id", "stage", "probe", "departs", "kind", "equivalent", "floor_source"}  # keys whose words are whydiff's own


class Scrubber:
    """Replaces them. `kept`: what is the evidence itself (prompts, versions); a variable's value that is part of it is no secret."""

    def __init__(self, kept: Iterable[str] = (), folders: Mapping[pathlib.Path, str] | None = None):
        kept = list(kept)
        known = {pathlib.Path.home(): "~", pathlib.Path.cwd(): ".", pathlib.Path(tempfile.gettempdir()): "TMP", **(folders or {})}
        found = {str(way): word for path, word in known.items() for way in (path, path.resolve())}
        self._folders = sorted(((path, word) for path, word in found.items() if len(path) > 1), key=lambda pair: -len(pair[0]))
        values = {value for value in map(str.strip, os.environ.values()) if len(value) >= SHORTEST and value not in _PUBLIC}
        self._values = sorted((v for v in values if not any(v in text for text in kept)), key=len, reverse=True)
        self._names = sorted({name for name in _names() if len(name) > 2 and name.lower() not in _EVERYBODY | _PUBLIC}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Folders of this machine by what they are (`~`, `.`), other absolute paths by their last part, the rest as `[removed]`."""
        for path, word in self._folders:
            text = re.sub(rf"(?<![\w.]){re.escape(path)}(?![\w-])", lambda _, word=word: word, text)
        for value in self._values:
            text = text.replace(value, REMOVED)
        text = _WINDOWS.sub(lambda found: f"…/{found[1]}", _ABSOLUTE.sub(_last, text))
        for name in self._names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", REMOVED, text)
        return text

    def data(self, value):
        """The same of every string in JSON-like data, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): v if k in _FIXED else self.data(v) for k, v in value.items()}
        return [self.data(v) for v in value] if isinstance(value, (list, tuple)) else value

    def page(self, page: str) -> str:
        """An HTML page; its style and its pictures stay."""
        return _PIECE.sub(lambda found: self._piece(found[0]), page.replace("<wbr>", ""))  # which stands in the middle of a path

    def _piece(self, piece: str) -> str:
        if piece.startswith("<style") or piece == f"<script>{_own_script()}</script>":
            return piece  # of a changed script the page's policy would run nothing
        if piece.startswith("<script"):
            return self.text(piece)
        if piece.startswith("<"):
            return re.sub(r'="([^"]*)"', lambda found: f'="{self._attribute(found[1])}"', piece)
        return html.escape(self.text(html.unescape(piece)), quote=False)

    def _attribute(self, value: str) -> str:
        return value if value.startswith("data:") else html.escape(self.text(html.unescape(value)))


@functools.cache
def _own_script() -> str:
    """The report's, which holds nothing of anybody."""
    return (pathlib.Path(__file__).parent / "report" / "report.js").read_text(encoding="utf-8")


def _names() -> set[str]:
    """Of the user and of the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = ""
    return {user, pathlib.Path.home().name, socket.gethostname(), socket.gethostname().split(".")[0]}


def _last(found: re.Match) -> str:
    parts = [part for part in found[0].split("/") if part]
    return "~" if parts[0] in ("home", "Users") and len(parts) == 2 else f"…/{parts[-1]}"
