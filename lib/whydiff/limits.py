"""How much of a file from a stranger is read before whydiff says no: each number once, with its reason and how to allow more.

A file may be as large as it likes where what is read is what lies on the disk (tensors are mapped, not copied: a trace of 80 GB is
fine). The limits are for what a small file can blow up to. Each can be raised by an environment variable of its name.
"""

from __future__ import annotations

import dataclasses
import os

from whydiff.errors import Trouble


@dataclasses.dataclass(frozen=True)
class Limit:
    """`name`: that of the environment variable, without WHYDIFF_. `what`: the unit, as a message has it."""

    name: str
    usual: int
    what: str

    @property
    def most(self) -> int:
        """Raises Trouble where the environment variable holds no number."""
        told = os.environ.get(f"WHYDIFF_{self.name}")
        if told is None:
            return self.usual
        try:
            return int(float(told))
        except (ValueError, OverflowError):
            raise Trouble(f"WHYDIFF_{self.name} is {told!r}; expected a number, such as {self.usual}.") from None

    def check(self, amount: float, where) -> None:
        """Raise Trouble where `amount` is more than is read."""
        if amount > self.most:
            raise Trouble(f"{where}: {self._shown(amount)} {self.what}, and {self._shown(self.most)} are read at most. Where you know "
                          f"that this is right, allow it: WHYDIFF_{self.name}={int(amount)}")  # fmt: skip

    def _shown(self, amount: float) -> str:
        return f"{int(amount):,}" if amount < 1e12 else f"{amount:.2g}"


# A recording of 50 steps, two branches and a thousand modules has a hundred thousand. A place costs about 2 kB and 30 µs.
PLACES = Limit("MOST_PLACES", 1_000_000, "recorded tensors")
# A line is about one tensor (400 bytes; a fingerprint 12 kB), or about the whole run.
LINE = Limit("MOST_LINE_BYTES", 64 << 20, "bytes in one line")
# Steps are counted up to: a loop over them must end. Nobody samples a million steps.
STEP = Limit("MOST_STEPS", 1_000_000, "steps")
# The JSON before the tensors of a safetensors file. 16 MiB name 200,000 tensors and take 5 s; the library itself stops at 100 MB.
HEADER = Limit("MOST_HEADER_BYTES", 16 << 20, "bytes of safetensors header")
# A picture becomes 12 bytes a pixel. 2**28 is a square of 16384; 2**29 is a minute of 1280x720 at 10 frames a second.
PIXELS = Limit("MOST_PIXELS", 1 << 28, "pixels in a picture")
FRAMES = Limit("MOST_FILM_PIXELS", 1 << 29, "pixels in all frames")
# Numbers hardly compress: no honest recording becomes a hundred times its size. A small one may, as masks do.
UNPACKED = Limit("MOST_UNPACKED_BYTES", 1 << 30, "bytes unpacked")
RATIO = 100
FILM_RATIO = 2000  # of animated pictures: one frame is much like the next
MEMBERS = Limit("MOST_MEMBERS", 100_000, "files in an archive")
# Files beneath one folder of a dump; beyond, somebody named the wrong folder.
FILES = Limit("MOST_FILES", 100_000, "files")
# A case is written by hand; YAML is read at about 100 kB a second.
CASE = Limit("MOST_CASE_BYTES", 1 << 20, "bytes of YAML")
# The time that YAML takes grows with the square of these.
BRACKETS = Limit("MOST_BRACKETS", 500, "open brackets")
# Settings, verdicts, graphs: values that are looked at one by one. Deeper or longer ones are somebody's joke.
JSON = Limit("MOST_JSON_BYTES", 64 << 20, "bytes of JSON")
VALUES = Limit("MOST_VALUES", 200_000, "values")
DEPTH = Limit("MOST_DEPTH", 64, "levels of nesting")
DIGITS = Limit("MOST_DIGITS", 300, "digits in a number")
# A log of a run, however chatty.
LOG = Limit("MOST_LOG_BYTES", 256 << 20, "bytes of log")


def check_unpacked(size: float, packed: int, where, ratio: int = RATIO) -> None:
    """Raise Trouble where `packed` bytes on the disk become `size` bytes in memory and that is no recording's ratio."""
    if size > ratio * packed:
        UNPACKED.check(size, where)


def check_values(value, where) -> None:
    """Raise Trouble for JSON-like data that is nested too deeply, has too many values (shared ones count each time: an alias of an
    alias of an alias), is part of itself, or holds a number with hundreds of digits."""
    count, left = 0, [(value, 1)]
    most, deepest, longest = VALUES.most, DEPTH.most, 10**DIGITS.most
    while left:
        held, depth = left.pop()
        if depth > deepest:
            DEPTH.check(depth, where)
        if isinstance(held, dict):
            inner = [*held, *held.values()]
        elif isinstance(held, (list, tuple, set, frozenset)):
            inner = held
        else:
            if type(held) is int and not -longest < held < longest:
                DIGITS.check(held.bit_length() * 0.30103, where)
            continue
        count += len(inner)
        if count > most:
            VALUES.check(count, where)
        left += [(one, depth + 1) for one in inner]
