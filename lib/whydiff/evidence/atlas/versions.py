"""The versions of one framework that were looked at, oldest first, and which of them answers for a version asked for."""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Version:
    """A release or commit that was read. `source`: where; `also`: other names for it; `branch`: empty on the main line."""

    name: str
    source: str
    date: str = ""
    branch: str = ""
    also: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Any of its names, a commit also by seven or more of its digits; case does not matter."""
        name = name.strip().lower()
        known = [self.name.lower(), *(word.lower() for word in self.also), *([self.branch.lower()] if self.branch else [])]
        commit = re.fullmatch(r"[0-9a-f]{7,40}", name) and re.fullmatch(r"[0-9a-f]{7,40}", known[0])
        return name in known or bool(commit and (name.startswith(known[0]) or known[0].startswith(name)))


def position(versions: tuple[Version, ...], name: str) -> int | None:
    """Where `name` stands in `versions`; of a branch named as a whole, its newest. A release between two stands at the earlier
    one. None for what cannot be placed."""
    found = [i for i, version in enumerate(versions) if version.is_called(name)]
    if found:
        return found[-1]
    wanted = _release(name)
    if wanted is None:
        return None
    earlier = [i for i, version in enumerate(versions) if not version.branch and _release_or_later(version) <= wanted]
    return earlier[-1] if earlier else None


def newest(versions: tuple[Version, ...]) -> int:
    """The last of the main line."""
    return max(i for i, version in enumerate(versions) if not version.branch)


def _release(name: str) -> tuple | None:
    """(numbers, post) of a release such as 0.5.8.post1; None for a commit or a branch."""
    match = re.fullmatch(r"v?(\d+(?:\.\d+)+)(?:\.?post(\d+))?", name.strip().lower())
    return (tuple(int(part) for part in match[1].split(".")), int(match[2] or 0)) if match else None


def _release_or_later(version: Version) -> tuple:
    # A commit cannot be compared with a release: it counts as later than any, so that it never answers for one.
    return _release(version.name) or ((float("inf"),), 0)
